"""Sealed files: written atomically with a SHA-256 at the end, which is checked on reading."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import IO, Any, BinaryIO

import torch

from salad.errors import DamagedError, StorageError
from salad.input_files import open_input
from salad.runs.atomic import sync_folder
from salad.tensor_files import load_tensors, reading

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
        InputError: the file is missing, or holds more than tensors and plain values.
        DamagedError: the content does not match the seal, or cannot be decoded.
        MachineError: there is too little memory to read it, or too few open files.
        StorageError: its disk fails.
    """
    with reading(path), open_input(path) as file:
        if seal := _seal(file):
            size = file.tell() - SEAL_BYTES
            file.seek(0)
            digest = hashlib.sha256()
            while size > 0 and (block := file.read(min(READ_BYTES, size))):
                digest.update(block)
                size -= len(block)
            if digest.digest() != seal[:32]:
                raise DamagedError(f"{path}: damaged: its content does not match its SHA-256; use an older checkpoint")
    return load_tensors(path)


def is_sealed(path: Path) -> bool:
    """Check if a file that can be read ends with a seal."""
    with reading(path), open_input(path) as file:
        return bool(_seal(file))


def _seal(file: BinaryIO) -> bytes:
    """Read the seal at the end of a file; empty if there is none."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - SEAL_BYTES))
    seal = file.read()
    return seal if seal.endswith(SEAL_MARK) and len(seal) == SEAL_BYTES else b""
