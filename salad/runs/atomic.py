"""A file that is written aside, and takes the place of an older one once it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from salad.errors import StorageError, printable


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` where all goes well and is removed where not.

    Raises:
        StorageError: the disk is full or read-only; a file that was there before stands.
    """
    temporary = path.with_name(f".writing.{os.getpid()}")
    try:
        temporary.touch()
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{printable(path)}: cannot be written ({error.strerror or error}); what was there before stands; "
            "make room, or choose another place"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # a read-only disk has nothing to clean
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename last, where folders can be synced."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
