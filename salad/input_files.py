"""Open files of an unknown source, and parse JSON text of an unknown source."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MAX_DIGITS = 300  # of a whole number: with more, it is larger than any float
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
PIPES_OF_THE_SHELL = ("/dev/", "/proc/")  # opened by whoever typed the command: they end with their writer


def open_input(path: Path) -> BinaryIO:
    """Open a regular file, or a pipe that the shell has opened, for reading, without ever waiting for it.

    Raises:
        OSError: the file cannot be opened, or is a folder, a named pipe or a device, which may block or never end.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:
        raise OSError(errno.EINVAL, "a name with a NUL byte", os.fspath(path)) from None
    try:
        kind = stat.S_IFMT(os.fstat(handle).st_mode)
        is_of_shell = kind == stat.S_IFIFO and os.fspath(path).startswith(PIPES_OF_THE_SHELL)
        if kind != stat.S_IFREG and not is_of_shell:
            raise OSError(errno.EINVAL, f"{KINDS.get(kind, 'a device')}, not a file", os.fspath(path))
        if hasattr(os, "set_blocking"):
            os.set_blocking(handle, True)
        return io.BufferedReader(io.FileIO(os.fspath(path), opener=lambda *_: handle))  # keeps the name
    except BaseException:
        os.close(handle)
        raise


def read_input(path: Path, *, most: int | None = None) -> bytes:
    """Read a file that `open_input` opens.

    Args:
        path: the file.
        most: largest size, in bytes; None for any.

    Raises:
        OSError: the file cannot be read, or is larger.
    """
    with open_input(path) as file:
        content = file.read(-1 if most is None else most + 1)
    if most is not None and len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", os.fspath(path))
    return content


def parse_json(text: str | bytes, *, allow_nan: bool = False) -> Any:
    """Parse JSON text as the standard has it; bytes are UTF-8, with or without a byte order mark.

    Args:
        text: the text.
        allow_nan: whether NaN and infinite numbers, which Python writes, are read.

    Raises:
        ValueError: the text is not JSON or not UTF-8, is nested too deeply, has a key twice in an object, or holds an
            integer of more than `MAX_DIGITS` digits, NaN or an infinite number; the message is one short line.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        floats: dict[str, Any] = {} if allow_nan else {"parse_constant": _refuse, "parse_float": _finite}
        return json.loads(text, parse_int=_integer, object_pairs_hook=_object, **floats)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def _refuse(word: str) -> float:
    raise ValueError(f"{word[:20]} is not a number of JSON")


def _finite(digits: str) -> float:
    return value if math.isfinite(value := float(digits)) else _refuse(digits)


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; of two values for a key, neither can be told to be the one that was meant."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)[:40]!a} is there twice")
    return content
