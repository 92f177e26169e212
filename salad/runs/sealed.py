"""Files that are whole or not there: written aside, sealed with a SHA-256, moved into place, checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import IO, Any

import torch

from salad.errors import InputError, StorageError
from salad.runs.atomic import sync_folder

SEAL_MARK = b"salad-sha256-end"  # the file's last bytes; the digest of all before stands in front of it
SEAL_BYTES = 32 + len(SEAL_MARK)
READ_BYTES = 2**22


class _Hashing:
    """A file to write to that keeps the digest, and the first error, which torch.save hides."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def write_sealed(paths: list[Path], content: dict[str, Any]) -> None:
    """Write tensors and plain values under one or several names in one folder.

    A name shows its old file or the whole new one at every moment, also when the machine stops. The last
    name is moved into place last.

    Raises:
        StorageError: the disk is full or read-only; files that were there before stand.
    """
    folder = paths[0].parent
    temporary = folder / f".writing.{os.getpid()}"
    link = folder / f".linking.{os.getpid()}"
    hashing = None
    try:
        with temporary.open("wb") as file:
            hashing = _Hashing(file)
            torch.save(content, hashing)  # type: ignore[arg-type]
            file.write(hashing.digest.digest() + SEAL_MARK)
            file.flush()
            os.fsync(file.fileno())
        for path in paths[:-1]:
            _link_or_copy(temporary, link)
            link.replace(path)
        temporary.replace(paths[-1])
        sync_folder(folder)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else hashing.error if hashing else None
        if cause is None:
            raise
        raise StorageError(
            f"{paths[-1]}: could not be written ({cause.strerror}); files written before stand; make room and --resume"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # a read-only disk has nothing to clean
            temporary.unlink(missing_ok=True)
            link.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system knows no links."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        with source.open("rb") as old, target.open("wb") as new:
            while block := old.read(READ_BYTES):
                new.write(block)
            new.flush()
            os.fsync(new.fileno())


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left of a file that it was writing."""
    for pattern in (".writing.*", ".linking.*"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def read_sealed(path: Path) -> Any:
    """Read a file of `write_sealed`, or one of torch.save without a seal; nothing in it is ever run.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        if _is_broken(path):
            raise InputError(f"{path}: damaged: its content does not match its SHA-256; use an older checkpoint")
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # damaged files make torch.load raise many kinds
        raise InputError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from None


def _is_broken(path: Path) -> bool:
    """Whether a sealed file does not match its seal; False for a file without one."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - SEAL_BYTES
        if size < 0:
            return False
        file.seek(size)
        seal = file.read()
        if not seal.endswith(SEAL_MARK):
            return False
        file.seek(0)
        digest = hashlib.sha256()
        while size > 0:
            block = file.read(min(READ_BYTES, size))
            digest.update(block)
            size -= len(block)
        return digest.digest() != seal[:32]
