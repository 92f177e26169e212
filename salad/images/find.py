"""Where new images come from: paths that were typed, standard input, and a folder that fills."""

from __future__ import annotations

import glob
import logging
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from salad.errors import InputError, printable
from salad.images.dicom import HEAD_BYTES, is_dicom
from salad.images.read import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

STDIN_WORD = "-"
CHUNK_BYTES = 2**16
MAX_PATH_BYTES = 2**16  # no system takes longer ones; what has no end is no list of paths

Stamp = tuple[int, int]


def list_images(words: Iterable[str], *, stdin: int = 0, separator: bytes = b"\n") -> Iterator[Path | None]:
    """The image files that some words stand for, found while they are taken.

    Args:
        words: files, which need not exist; folders, of which all images are taken; patterns such as ``films/*.png``;
            ``-`` for words that are read.
        stdin: the open file to read those from, by its number.
        separator: what ends each of those.

    Yields:
        A file, or None before it waits for more to be read.

    Raises:
        InputError: what is read is no list of paths.
    """
    for word in words:
        if word == STDIN_WORD:
            for path in _read_paths(stdin, separator):
                yield from [None] if path is None else _expand(path)
        elif glob.has_magic(word) and not Path(word).exists():
            found = sorted(glob.glob(word, recursive=True))  # noqa: PTH207  # Path's takes no absolute pattern
            for path in map(Path, found or [word]):
                yield from _expand(path)
        else:
            yield from _expand(Path(word))


def watch(folder: Path, *, interval: float, wait: Callable[[float], None] = time.sleep) -> Iterator[Path | None]:
    """The images of a folder and of those in it, as they arrive, each once, without an end.

    An image has arrived when two looks find the same size, above 0, and the same time of change.

    Args:
        folder: what to look at.
        interval: between two looks, in seconds.
        wait: for so many seconds.

    Yields:
        A file, or None before it waits.

    Raises:
        InputError: there is no such folder when it begins.
    """
    if not folder.is_dir():
        raise InputError(f"--watch {printable(folder)}: no such folder")
    taken: set[Path] = set()
    before: dict[Path, Stamp] = {}
    while True:
        now = {path: stamp for path in images_below(folder) if (stamp := _stamp(path)) is not None}
        taken &= now.keys()  # what was removed may arrive again
        for path, stamp in now.items():
            if path not in taken and before.get(path) == stamp:
                taken.add(path)
                yield path
        before = now
        yield None
        wait(interval)


def images_below(folder: Path) -> Iterator[Path]:
    """The images of a folder and of those in it, in sorted order; links to folders are not followed.

    Those are files with the suffix of an image, and DICOM files without one. What is hidden is left out.
    """
    for place, folders, files in os.walk(folder, onerror=_warn):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and (path.suffix.lower() in IMAGE_SUFFIXES or _is_bare_dicom(path)):
                yield path


def _expand(path: Path) -> Iterator[Path]:
    if not os.path.isdir(path):  # noqa: PTH112  # False for a name that no file can have, where Path raises
        yield path
        return
    is_empty = True
    for image in images_below(path):
        is_empty = False
        yield image
    if is_empty:
        logger.warning("%s: holds no image (%s)", printable(path), ", ".join(sorted(IMAGE_SUFFIXES)))


def _read_paths(stdin: int, separator: bytes) -> Iterator[Path | None]:
    """Paths as they are read; blank ones are left out."""
    rest = b""
    while True:
        if not select.select([stdin], [], [], 0)[0]:
            yield None
        chunk = os.read(stdin, CHUNK_BYTES)
        *whole, rest = (rest + chunk).split(separator)
        if not chunk:
            whole, rest = [rest], b""
        if len(rest) > MAX_PATH_BYTES:
            raise InputError(f"standard input holds no paths: {len(rest)} bytes without an end of line")
        yield from (Path(os.fsdecode(name)) for name in whole if name)
        if not chunk:
            return


def _is_bare_dicom(path: Path) -> bool:
    if path.suffix or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(HEAD_BYTES), "")
    except OSError:
        return False


def _stamp(path: Path) -> Stamp | None:
    """Size in bytes and time of change; None for an empty file, or one that is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if found.st_size else None


def _warn(error: OSError) -> None:
    logger.warning("%s: cannot be listed (%s)", printable(error.filename), error.strerror)
