"""One training in a folder at a time."""

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

from salad.errors import InputError, StorageError

logger = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # of a file system that has none


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock file, which names its holder, while a run writes to its folder.

    Args:
        path: the lock file; a killed holder leaves it behind, but the system drops its lock.

    Raises:
        InputError: another process, named with its host, holds the lock.
        StorageError: the file cannot be written.
    """
    lock = FileLock(path, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        try:
            lock.acquire(blocking=False)
            stack.callback(lock.release)
            stack.callback(path.unlink, missing_ok=True)  # still locked: whoever waits for this file opens a new one
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except Timeout:
            message = f"{path.parent}: {_holder(path)} is training here; wait for it, or choose another XP_PATH"
            raise InputError(message) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                message = f"{path}: could not be written ({error.strerror}); make room, or choose another XP_PATH"
                raise StorageError(message) from None
            logger.warning("%s: no locks on this file system: start no second training here", path.parent)
        yield


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):  # a holder that has just ended
        if re.fullmatch(r"process \d{1,9} on \S{1,99}", text := path.read_text(encoding="utf-8", errors="replace")):
            return text
    return "another process"
