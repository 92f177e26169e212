"""Sealed files: written atomically with a SHA-256 at the end, which is checked on reading."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import IO, Any

import torch

from salad.errors import InputError, StorageError
from salad.runs.atomic import sync_folder

SEAL_MARK = b"salad-sha256-end"  # last bytes of a file, after the digest of its content
SEAL_BYTES = 32 + len(SEAL_MARK)
READ_BYTES = 2**22


class _Hashing:
    """Writable file that computes the digest, and records the error that torch.save hides."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write bytes and update the digest."""
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()


def write_sealed(paths: list[Path], content: dict[str, Any]) -> None:
    """Write tensors and plain values atomically, under one or several names in one folder.

    Each name refers to its old file or to the complete new one at every moment, even if the machine crashes. The last
    name is replaced last.

    Raises:
        StorageError: the disk is full or read-only; existing files are unchanged.
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
            f"{paths[-1]}: could not be written ({cause.strerror}); existing files are unchanged; "
            "free disk space and --resume"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # a read-only disk has nothing to clean
            temporary.unlink(missing_ok=True)
            link.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    """Link a file under a second name, or copy it on a file system without links."""
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
    """Remove temporary files of killed processes."""
    for pattern in (".writing.*", ".linking.*"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def read_sealed(path: Path) -> Any:
    """Read a file of `write_sealed`, or of torch.save without a seal, without running any code in it.

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
    except Exception as error:  # torch.load raises many types of errors on damaged files
        raise InputError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from None


def _is_broken(path: Path) -> bool:
    """Check if a sealed file does not match its digest; False for a file without a seal."""
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
