"""Atomic write: a file is replaced only once its new content is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from salad.errors import StorageError, printable


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; replace `path` by it on success, and remove it on an error.

    Raises:
        StorageError: the disk is full or read-only; an existing file is unchanged.
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
            f"{printable(path)}: cannot be written ({error.strerror or error}); an existing file is unchanged; "
            "free disk space, or choose another path"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # a read-only disk has nothing to clean
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a rename in a folder to disk, on systems that can sync folders."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
