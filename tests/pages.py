"""Reading of the pages of README and docs/: their links, headings, code and commands."""

import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from running import REPOSITORY

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n)+(?=\n|\Z)")
LINK = re.compile(r"\[[^][]*\]\(([^)\s]+)\)")


class Command(NamedTuple):
    """A command line of a page: its words, without pipes, redirections, variables and comments."""

    page: str
    line: str
    words: tuple[str, ...]


def pages() -> list[Path]:
    named = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")]
    return [path for path in [*named, *sorted((REPOSITORY / "docs").glob("*.md"))] if path.exists()]


def code(path: Path, *languages: str) -> list[str]:
    """The fenced code of these languages."""
    return [text for language, text in FENCE.findall(path.read_text(encoding="utf-8")) if language in languages]


def prose(path: Path) -> str:
    """The page without its fenced code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def links(path: Path) -> list[str]:
    return LINK.findall(re.sub(r"`[^`\n]*`", "", prose(path)))


def anchors(path: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    found: dict[str, int] = {}
    taken = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        taken.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return taken


def commands(path: Path, programs: Collection[str]) -> Iterator[Command]:
    """All commands of fenced shell code, and those of indented or unlabelled code that begin with a program."""
    for block in code(path, "bash", "sh", "console"):
        yield from _commands_of(block, path)
    indented = [re.sub(r"^ {4}", "", text, flags=re.MULTILINE) for text in INDENTED.findall(prose(path))]
    for block in [*code(path, ""), *indented]:
        yield from (command for command in _commands_of(block, path) if command.words[0] in programs)


def _commands_of(block: str, path: Path) -> Iterator[Command]:
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        for words in split(line):
            yield Command(path.name, line.strip(), words)


def split(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line, between pipes and semicolons, without redirections and variables."""
    if re.match(r"[A-Z_]+=\$\(", line):
        return  # a variable
    try:
        tokens = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|;<>&")
        tokens.whitespace_split = True
        words = [*tokens]
    except ValueError:
        return  # prose
    part: list[str] = []
    for word in [*words, ";"]:
        if re.fullmatch(r"[|;&]+", word):
            part = part[: next((i for i, item in enumerate(part) if re.fullmatch("[<>]+", item)), len(part))]
            while part and re.match(r"[A-Z_]+=", part[0]):
                part = part[1:]
            if part:
                yield tuple(part)
            part = []
        else:
            part.append(word)
