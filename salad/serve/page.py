"""Render the page on which films are dropped."""

from __future__ import annotations

from pathlib import Path

from salad.report.page import render_page


def make_page(*, model: str, max_bytes: int, needs_token: bool) -> str:
    """Compose the page, whose content security policy allows only its own script, style and server.

    Args:
        model: name of the model.
        max_bytes: largest size of a film.
        needs_token: whether the page asks for a token.
    """
    return render_page(
        "serve.html",
        styles=("report.css", "serve.css"),
        scripts=("views.js", "serve.js"),
        folder=Path(__file__).parent / "templates",
        connects=True,
        title="Score a film",
        model=model,
        data={"max_bytes": max_bytes, "needs_token": needs_token},
    )
