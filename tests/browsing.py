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


FLAWS = """(root) => {
  const found = [], boxes = [], page = document.documentElement.clientWidth;
  const named = (box) => `${box.what} at ${box.left.toFixed(0)}, ${box.top.toFixed(0)}`;
  const take = (rect, what, of) => {
    const box = { left: rect.left, right: rect.right, top: rect.top, bottom: rect.bottom, what, of };
    if (rect.width > 0 && rect.height > 0) boxes.push(box);
    if (rect.left < -1 || rect.right > page + 1) found.push(`outside of the page: ${named(box)}`);
  };
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode, parent = node.parentElement, range = document.createRange();
    if (!node.data.trim() || parent.closest("script, style, select, .hidden") || !parent.checkVisibility()) continue;
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      take(rect, `"${node.data.trim().slice(0, 40)}"`, parent);
      for (let outer = parent; outer && outer !== root; outer = outer.parentElement) {
        const style = getComputedStyle(outer), inside = outer.getBoundingClientRect();
        const hides = style.overflowX !== "visible" && style.display !== "inline" && !outer.matches(".name, .layer");
        const isCut = rect.right > inside.right + 1 || rect.left < inside.left - 1;
        if (hides && isCut) found.push(`cut: "${node.data.trim()}"`);
      }
    }
  }
  for (const mark of root.querySelectorAll("line.threshold, circle.here, img:not(.layer), input, select")) {
    if (!mark.checkVisibility() || mark.closest(".tip")) continue;
    const { left, top, width, height } = mark.getBoundingClientRect();
    take(new DOMRect(width ? left : left - 1, top, width || 2, height), mark.tagName, mark); // a line has no width
  }
  const marks = new Set(["line", "circle"]); // they may lie on each other
  boxes.forEach((one, i) => boxes.slice(i + 1).forEach((other) => {
    const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
    const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
    const nested = one.of.contains(other.of) || other.of.contains(one.of);
    const related = nested || (marks.has(one.what) && marks.has(other.what));
    if (wide > 1 && high > 3 && !related) found.push(`${named(one)} lies on ${named(other)}`);
  }));
  for (const head of root.querySelectorAll(".metrics thead th")) {
    if (!head.checkVisibility()) continue;
    const left = head.getBoundingClientRect().left;
    const cells = [...root.querySelectorAll(".metrics tbody tr > *")].filter((cell) => cell.checkVisibility());
    const isBelow = (cell) => Math.abs(cell.getBoundingClientRect().left - left) < 2;
    if (!cells.some(isBelow)) found.push(`no column below "${head.textContent}"`);
  }
  return found;
}"""


def flaws(page, part: str = "body") -> list[str]:
    """What is wrong with the layout of a part of the page: texts, pictures and controls that lie on each other, are cut
    or leave the page, and headings of the table without a column."""
    return page.locator(part).evaluate(FLAWS)


def keep(page, name: str, tmp_path: Path, *, full_page: bool = True) -> None:
    """Take a screenshot; where SALAD_ARTEFACTS names a folder it is kept there."""
    file = tmp_path / f"{name}.png"
    page.screenshot(path=file, full_page=full_page)
    if folder := os.environ.get("SALAD_ARTEFACTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
