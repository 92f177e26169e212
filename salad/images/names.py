"""Find the file that a name in a table, a list or a command means, as written or as another system writes it."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from salad.errors import printable

WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\|.*/[A-Za-z]:[\\/]")
SUFFIX = re.compile(r"\.[a-z][a-z0-9]{1,7}")
MAX_LENGTH = 80  # characters of a name in a message


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case; empty where a name ends with a number, as a UID does."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  # Path is slow for a million names
    return suffix if SUFFIX.fullmatch(suffix) else ""


def stem_of(name: str) -> str:
    """Return a file name without its suffix; a UID such as `1.2.840.15` has none."""
    return name[: len(name) - len(suffix_of(name))]


def name_key(name: str) -> str:
    """Return a key that is equal for names that systems write differently: in Unicode form, and in blanks around them.

    Capitals count: on most disks `a.png` and `A.png` are two files.
    """
    return re.sub(r"\s", " ", unicodedata.normalize("NFC", name)).strip()


def with_slashes(name: str) -> str:
    """Return a path of another system with forward slashes, without quotes, blanks and `file://` around it."""
    text = name.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    if text.lower().startswith("file:"):
        text = unquote(urlsplit(text).path, errors="surrogateescape")
    return text.replace("\\", "/")


def last_part(name: str) -> str:
    """Return the `name_key` of the last part of a path of any system."""
    return name_key(with_slashes(name).rpartition("/")[2])


def find_file(name: str, folder: Path) -> Path:
    """Find the file or folder that a name means.

    The name as written comes first. Else slashes, quotes, blanks around it, `file://`, the Unicode form and the
    encoding (cp1252) may be those of another system; capitals may not.

    Args:
        name: absolute path, or path inside `folder`, without NUL.
        folder: folder that relative paths start from.

    Returns:
        Path of the file; `folder / name` if there is none.
    """
    exact = folder / name
    if os.path.lexists(exact):
        return exact
    text = with_slashes(name)
    path = Path(os.path.expanduser(text)) if text.startswith("~") else folder / text  # noqa: PTH111
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        inner = _inside(found, part)
        if inner is None:
            return exact
        found = inner
    return found if text else exact


def hint(path: Path) -> str:
    """Word the hint why a path is not there, for the end of a message: the name that differs in capitals or suffix."""
    for parent in path.parents:
        if parent.is_dir():
            missing = path.relative_to(parent).parts[:1]
            return _hint_in(parent, missing[0], path) if missing else ""
    return ""


def shortened(name: object, length: int = MAX_LENGTH) -> str:
    """Shorten a name for a message; its end, which tells the file and the suffix, is kept."""
    text = printable(name)
    if len(text) <= length:
        return text
    return f"{text[: length // 3]}...{text[len(text) - (length - length // 3 - 3) :]}"


def _hint_in(parent: Path, name: str, path: Path) -> str:
    """Word the hint for the first part of a path that is missing in its parent."""
    if WINDOWS_PATH.match(str(path)):
        return "; it is a path of Windows: write paths from the folder of the table or list"
    others = [*_names(str(parent), parent.stat().st_mtime_ns).values()]
    for other in others:
        if name_key(other).casefold() == name_key(name).casefold():
            differs = ", which differs in capitals" if name_key(other) != name_key(name) else ""
            return f"; there is {shortened(other)}{differs}"
    stem = stem_of(name)
    if same := [other for other in others if stem_of(other) == stem and (parent / other).is_file()]:
        return f"; there is {shortened(same[0])}"
    return ""


def _inside(folder: Path, part: str) -> Path | None:
    """Find an entry of a folder by its name or, where that is not there, by its `name_key`."""
    if os.path.lexists(folder / part):
        return folder / part
    try:
        names = _names(str(folder), os.stat(folder).st_mtime_ns)  # noqa: PTH116
    except OSError:  # not a folder, or without permission
        return None
    found = (names[name_key(spelling)] for spelling in _spellings(part) if name_key(spelling) in names)
    return next((folder / name for name in found), None)


def _spellings(part: str) -> Iterator[str]:
    """Spell a name as decoded, then with the bytes that are no UTF-8, or the letters, read as cp1252."""
    yield part
    try:
        yield os.fsencode(part).decode("cp1252")
        yield os.fsdecode(part.encode("cp1252"))
    except UnicodeError:
        pass


@lru_cache(maxsize=256)
def _names(folder: str, _: int) -> dict[str, str]:
    """List the names in a folder by their `name_key`; the time of its last change keeps the cache true."""
    with os.scandir(folder) as entries:
        return {name_key(name): name for name in sorted((entry.name for entry in entries), reverse=True)}
