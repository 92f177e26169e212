"""Check output files before anything is done, and write them so that an older file is never lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from salad.errors import InputError, StorageError, printable
from salad.input_files import open_input
from salad.runs.atomic import sync_folder

PARTIAL = ".partial"
HEAD = 4096  # bytes of an old output that tell what it is
MAX_STEM = 200  # bytes of a name that are kept before a suffix: file systems allow 255


def check_output(path: Path, *, flag: str = "--out", inputs: Iterable[Path] = ()) -> None:
    """Raise `InputError` if a file cannot be written under this name, or would replace one of the inputs.

    Args:
        path: output file.
        flag: option that names it.
        inputs: files that the program reads.
    """
    where = f"{flag} {printable(path)}"
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # an impossible name raises
        if path.is_dir():
            raise InputError(f"{where}: is a folder: give the name of a file")
        if not path.parent.is_dir():
            raise InputError(
                f"{where}: there is no folder {printable(path.parent)}: make it first, or correct the name"
            )
        if path.exists() and not os.access(path, os.W_OK):
            raise InputError(f"{where}: may not be written: choose another name, or change its permissions")
        for source in inputs:
            if path.exists() and source.exists() and path.samefile(source):
                raise InputError(f"{where}: is one of the inputs, which it would replace: choose another name")
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{where}: cannot be written ({reason}): choose another name") from None


def is_special(path: Path) -> bool:
    """Check if a path is a pipe, a terminal or another device, which is written as it is."""
    try:
        return not stat.S_ISREG(path.stat().st_mode) or path.samefile("/dev/stdout")
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Yield the path of a new file beside `path` to write to, which `path` is replaced by at the end.

    After an error the new file stays if it holds anything, and the old one is as it was.

    Raises:
        StorageError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # the file behind a link, which stays a link
    partial = _create_beside(target)
    try:
        yield partial
        _replace(target, partial)
    finally:
        with contextlib.suppress(OSError):
            if partial.stat().st_size == 0:
                partial.unlink()


def storage_error(path: Path | str, error: OSError) -> StorageError:
    """Make the error of a failed write."""
    return StorageError(f"{printable(path)}: cannot be written ({error.strerror or error})")


def _replace(target: Path, partial: Path) -> None:
    """Replace a file, whose permissions stay, by another in the same folder."""
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(target, error) from None


def _create_beside(target: Path) -> Path:
    """Create an empty file beside another, under a name that no file has."""
    stem = os.fsdecode(os.fsencode(target.name)[:MAX_STEM])
    number = 1
    while True:
        partial = target.with_name(f"{stem}{PARTIAL}{number if number > 1 else ''}")
        try:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            number += 1
        except OSError as error:
            kind = InputError if error.errno == errno.EACCES else StorageError
            raise kind(f"{printable(target)}: cannot be written ({error.strerror})") from None
        else:
            return partial


def is_text(path: Path) -> bool:
    """Check if a file is text, empty or absent, by its beginning."""
    head = _head(path) if path.exists() else b""
    return head is not None and b"\0" not in head


def begins_with(path: Path, text: bytes) -> bool:
    """Check if a file begins with a text, or is empty."""
    head = _head(path)
    return head is not None and text.startswith(head[: len(text)])


def _head(path: Path) -> bytes | None:
    """Read the beginning of a file; None if it cannot be read."""
    try:
        with open_input(path) as file:
            return file.read(HEAD)
    except OSError:
        return None
