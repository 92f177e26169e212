"""A page in a headless Chromium that has no way out."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 360, "height": 740}


def find_chromium() -> str:
    """Its path; without it the test is skipped, or fails where SALAD_NEEDS_BROWSER is 1."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        _without("playwright is not installed: pip install playwright")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    return path or _without(f"none of {', '.join(NAMES)} is installed: apt-get install chromium")


def _without(reason: str) -> str:
    if os.environ.get("SALAD_NEEDS_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def browser() -> Iterator:
    """A Chromium that is closed at the end."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=["--no-sandbox"])  # root, as in CI, has no sandbox
        yield started
        started.close()


@contextmanager
def opened(browser, path: Path, **options) -> Iterator:
    """The page of a file, ready to use; at the end, it must have complained of nothing and asked for nothing else."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page, problems, asked = context.new_page(), [], []

    def answer(route):
        asked.append(route.request.url)
        route.continue_() if route.request.url.startswith("file:") else route.abort()

    page.route("**/*", answer)
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert problems == []
    assert asked == [path.as_uri()]


def keep(page, name: str, tmp_path: Path, *, full_page: bool = True) -> None:
    """Take a screenshot; where SALAD_ARTEFACTS names a folder it is kept there."""
    file = tmp_path / f"{name}.png"
    page.screenshot(path=file, full_page=full_page)
    if folder := os.environ.get("SALAD_ARTEFACTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
