"""Render a page that is complete in itself: one file that loads no other and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from salad.evaluation.calibration import shown_score

TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    template: str,
    *,
    styles: Sequence[str],
    scripts: Sequence[str] = (),
    folder: Path = TEMPLATES,
    connects: bool = False,
    **content: Any,
) -> str:
    """Render a template.

    Every value is escaped. The content security policy of the page allows only these scripts and styles, by the values
    `script_hash` and `style_hash`.

    Args:
        template: name of the page in its folder of templates.
        styles: names of its style sheets, put together in this order.
        scripts: names of its scripts, put together in this order.
        folder: folder of its templates; what it lacks comes from that of the report.
        connects: True if its scripts may ask the server that it comes from.
        content: values of the template by name; a missing one is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    loader = FileSystemLoader([folder, TEMPLATES])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown_score"] = shown_score
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    style, script = (
        "\n".join(loader.get_source(environment, name)[0] for name in names) for names in (styles, scripts)
    )
    script = f'"use strict";\n{{\n{script}\n}}\n'
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        has_script=bool(scripts),
        connects=connects,
        **content,
    )


def _hash(text: str) -> str:
    """Hash an inline script or style for the content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
