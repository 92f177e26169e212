"""Render a page that is complete in itself: one file that asks for nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from salad.evaluation.calibration import shown_score

TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, *, styles: Sequence[str], scripts: Sequence[str] = (), **content: Any) -> str:
    """Render a template.

    Every value is escaped. The content security policy of the page allows only the script and the style of the
    templates, and no requests.

    Args:
        template: name of the page in the folder of templates.
        styles: names of its style sheets there, put together in this order.
        scripts: names of its scripts there, put together in this order.
        content: values of the template by name; a missing one is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown_score"] = shown_score
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    style = _joined(styles)
    script = f'"use strict";\n{{\n{_joined(scripts)}\n}}\n'
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        has_script=bool(scripts),
        **content,
    )


def _joined(names: Sequence[str]) -> str:
    return "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    """Hash an inline script or style for the content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
