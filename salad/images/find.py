"""Find new images: from paths and patterns, from standard input, or below a folder."""

from __future__ import annotations

import codecs
import fnmatch
import glob
import logging
import os
import re
import select
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from salad.errors import InputError, printable
from salad.images.listing import LeftOut, list_files, reason_to_leave_out
from salad.images.names import find_file
from salad.images.read import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

STDIN_WORD = "-"
CHUNK_BYTES = 2**16
MAX_PATH_BYTES = 2**16  # above any system's limit: longer input is not a list of paths

MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
        InputError: a path is empty, or the input is not a list of paths.
    """
    words = list(words)
    if not all(word.strip() or os.path.lexists(word) for word in words):
        raise InputError("an empty path is given: is a variable not set? A dot stands for the current folder")
    return _listed(words, stdin, separator)


def _listed(words: list[str], stdin: int, separator: bytes) -> Iterator[Path | None]:
    """Expand the words of `list_images` one after another."""
    for word in words:
        if word == STDIN_WORD:
            for path in _read_paths(stdin, separator):
                yield from [None] if path is None else expand(path)
        elif glob.has_magic(word) and not Path(word).exists():
            yield from _matches(word)
        else:
            yield from expand(find_file(word, Path()))


def _matches(pattern: str) -> Iterator[Path]:
    """Expand a pattern; folders that a star stands for are left out as those below a folder are."""
    parts = Path(pattern).parts
    if "**" in parts:
        yield from _matches_below(pattern, parts)
        return
    left_out = LeftOut()
    for match in map(Path, sorted(glob.glob(pattern)) or [pattern]):  # noqa: PTH207  # it may be absolute
        for part, word in zip(match.parts, parts, strict=True):
            reason = reason_to_leave_out(part) if part != word else None
            if reason and (match.is_dir() or part != match.name):
                left_out.add(reason, f"{part}/")
                break
        else:
            yield from expand(match)
    left_out.say(Path(pattern), logger=logger)


def _matches_below(pattern: str, parts: tuple[str, ...]) -> Iterator[Path]:
    """Expand a pattern with two stars to the images below the folders before them that match the rest."""
    start = parts.index("**")
    rest = "/".join("[^/]+" if part == "**" else fnmatch.translate(part)[4:-3] for part in parts[start:])
    rest = rest.replace("[^/]+/", "(?:.*/)?")
    wanted = re.compile(".*" if parts[start:] == ("**",) else rest, re.DOTALL)
    is_empty = True
    for folder in sorted(glob.glob(str(Path(*parts[:start])))):  # noqa: PTH207
        for path in images_below(Path(folder)):
            if wanted.fullmatch(path.relative_to(folder).as_posix()):
                is_empty = False
                yield path
    if is_empty:
        yield Path(pattern)


def images_below(folder: Path, *, left_out: LeftOut | None = None) -> Iterator[Path]:
    """List the images below a folder, see `list_files`; a folder that cannot be listed gets a warning.

    Args:
        folder: folder to list.
        left_out: counts of what is left out, to add to; None to log them at the end.

    Yields:
        The images.
    """
    counted = LeftOut() if left_out is None else left_out
    yield from map(Path, list_files(folder, left_out=counted, stops=False))
    if left_out is None:
        counted.say(folder, logger=logger)


def expand(path: Path, *, say_empty: Callable[[str], None] = logger.warning) -> Iterator[Path]:
    """Expand a folder to its images; any other path stands for itself.

    Args:
        path: of a file or a folder.
        say_empty: called with a message if the folder holds no image; it may raise  [default: logs a warning]

    Yields:
        The images.
    """
    if not os.path.isdir(path):  # noqa: PTH112  # False for an impossible name, for which Path.is_dir raises
        yield path
        return
    is_empty = True
    for image in images_below(path):
        is_empty = False
        yield image
    if is_empty:
        say_empty(f"{printable(path)}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")


def _read_paths(stdin: int, separator: bytes) -> Iterator[Path | None]:
    """Read paths as they arrive, in any encoding and with any ends of lines that a table may have.

    Paths that end with NUL are taken as they are. Blank lines are skipped.

    Args:
        stdin: file descriptor to read from.
        separator: byte that ends each path.

    Yields:
        A path, see `find_file`, or None before it waits for input.

    Raises:
        InputError: the input is not a list of paths.
    """
    rest, is_text = b"", separator == b"\n"
    for chunk in _as_utf8(_chunks(stdin)) if is_text else _chunks(stdin):
        if chunk is None:
            yield None
            continue
        *whole, rest = (rest + chunk).split(separator)
        if len(rest) > MAX_PATH_BYTES:
            raise InputError(f"standard input holds no paths: {len(rest)} bytes without an end of line")
        for name in whole:
            yield from _paths_of(name, is_text=is_text)
    yield from _paths_of(rest, is_text=is_text)


def _paths_of(line: bytes, *, is_text: bool) -> Iterator[Path]:
    """Find the paths of a line: one, or several where carriage returns end the lines."""
    if not is_text:
        yield from [Path(os.fsdecode(line))] if line else []
        return
    if b"\0" in line:
        raise InputError(
            "standard input holds NUL characters, so it is no list of lines: save it as UTF-8, or use --null"
        )
    name = os.fsdecode(line)
    names = [name] if os.path.lexists(name) else name.split("\r")
    yield from (find_file(name, Path()) for name in names if name.strip())


def _chunks(stdin: int) -> Iterator[bytes | None]:
    """Read bytes as they arrive; None before it waits for more."""
    while True:
        if not select.select([stdin], [], [], 0)[0]:
            yield None
        if not (chunk := os.read(stdin, CHUNK_BYTES)):
            return
        yield chunk


def _as_utf8(chunks: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """Convert UTF-16 to UTF-8 and drop a byte order mark; any other bytes pass as they are."""
    start, decoder = b"", None
    is_open = True  # until the first bytes are known
    for chunk in chunks:
        if chunk is None:
            yield None
        elif is_open:
            start += chunk
            if not any(mark.startswith(start) for mark in MARKS):
                is_open, decoder = False, _decoder_of(start)
                yield _converted(start.removeprefix(codecs.BOM_UTF8), decoder)
        else:
            yield _converted(chunk, decoder)
    if is_open:
        yield b"" if start in MARKS else start


def _decoder_of(start: bytes) -> codecs.IncrementalDecoder | None:
    """Make the decoder for text that starts with these bytes; None for UTF-8 and for names of any bytes."""
    if start.startswith(MARKS[1:]):
        return codecs.getincrementaldecoder("utf-16")(errors="replace")
    zeros = [byte == 0 for byte in start[:2]]
    if zeros == [False, True] or zeros == [True, False]:  # no mark: letters of ASCII have a zero
        return codecs.getincrementaldecoder("utf-16-le" if zeros[1] else "utf-16-be")(errors="replace")
    return None


def _converted(chunk: bytes, decoder: codecs.IncrementalDecoder | None) -> bytes:
    return chunk if decoder is None else decoder.decode(chunk).encode(errors="replace")
