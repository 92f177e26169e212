"""Lock of a run folder, for one training at a time."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from salad.errors import InputError, StorageError, printable
from salad.input_files import read_input

logger = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # from file systems without locks


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock file, which names its holder, while a run writes to the folder.

    Args:
        path: lock file; if its holder is killed, the file stays, but the system releases the lock.

    Raises:
        InputError: another process, named with its host, holds the lock.
        StorageError: the file cannot be written.
    """
    if path.is_symlink():
        raise InputError(f"{printable(path)}: is a link, whose target would be written over: remove it")
    lock = FileLock(path, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        try:
            lock.acquire(blocking=False)
            stack.callback(lock.release)
            stack.callback(
                path.unlink, missing_ok=True
            )  # before the release, so that the next process opens a new file
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except Timeout:
            message = f"{path.parent}: {_holder(path)} is at work here; wait for it, or choose another folder"
            raise InputError(message) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                message = f"{path}: could not be written ({error.strerror}); free disk space, or choose another folder"
                raise StorageError(message) from None
            logger.warning(
                "%s: this file system has no locks: do not start a second training in this folder", path.parent
            )
        yield


def _holder(path: Path) -> str:
    """Read the holder of the lock from its file."""
    with contextlib.suppress(OSError):  # the holder may just have removed the file
        text = read_input(path, most=200).decode(errors="replace")
        if re.fullmatch(r"process \d{1,9} on \S{1,99}", text):
            return text
    return "another process"
