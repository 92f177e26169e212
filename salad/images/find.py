"""Find new images: from paths and patterns, from standard input, or below a folder."""

from __future__ import annotations

import glob
import logging
import os
import select
from collections.abc import Iterable, Iterator
from pathlib import Path

from salad.errors import InputError, printable
from salad.images.dicom import HEAD_BYTES, is_dicom
from salad.images.read import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

STDIN_WORD = "-"
CHUNK_BYTES = 2**16
MAX_PATH_BYTES = 2**16  # above any system's limit: longer input is not a list of paths


def list_images(words: Iterable[str], *, stdin: int = 0, separator: bytes = b"\n") -> Iterator[Path | None]:
    """List the image files that are named on the command line or on standard input, as they come.

    Args:
        words: files, which need not exist; folders, to take all their images; patterns such as ``films/*.png``;
            ``-`` to read paths from standard input.
        stdin: file descriptor to read paths from.
        separator: byte that ends each of these paths.

    Yields:
        A file, or None before it waits for more input.

    Raises:
        InputError: the input is not a list of paths.
    """
    for word in words:
        if word == STDIN_WORD:
            for path in _read_paths(stdin, separator):
                yield from [None] if path is None else _expand(path)
        elif glob.has_magic(word) and not Path(word).exists():
            matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
            for path in map(Path, matches or [word]):
                yield from _expand(path)
        else:
            yield from _expand(Path(word))


def images_below(folder: Path) -> Iterator[Path]:
    """List the images of a folder and its sub-folders in sorted order, without following links to folders.

    Images are files with an image suffix, and DICOM files without a suffix. Hidden files and folders are left out.
    """
    for parent, folders, files in os.walk(folder, onerror=_warn):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if not name.startswith(".") and (path.suffix.lower() in IMAGE_SUFFIXES or _is_bare_dicom(path)):
                yield path


def _expand(path: Path) -> Iterator[Path]:
    """Expand a folder to its images, with a warning if it has none; any other path stands for itself."""
    if not os.path.isdir(path):  # noqa: PTH112  # False for an impossible name, for which Path.is_dir raises
        yield path
        return
    is_empty = True
    for image in images_below(path):
        is_empty = False
        yield image
    if is_empty:
        logger.warning("%s: holds no image (%s)", printable(path), ", ".join(sorted(IMAGE_SUFFIXES)))


def _read_paths(stdin: int, separator: bytes) -> Iterator[Path | None]:
    """Read paths as they arrive, without blank ones; None before it waits for input."""
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
    """Detect a DICOM file without a suffix."""
    if path.suffix or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(HEAD_BYTES), "")
    except OSError:
        return False


def _warn(error: OSError) -> None:
    """Warn about a folder that cannot be listed."""
    logger.warning("%s: cannot be listed (%s)", printable(error.filename), error.strerror)
