"""One training in a folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from salad.errors import InputError, StorageError

HEARTBEAT_SECONDS = 30
STALE_SECONDS = 600  # without a heartbeat, a holder on another machine counts as dead


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock file while a run writes to its folder.

    The system drops the lock when its holder dies, so a killed run blocks nobody. Some network file systems
    keep locks to one machine, others have none: there the name in the file counts, as long as its heartbeat is
    fresh and, on this machine, its process runs.

    Args:
        path: the lock file; there as long as somebody holds it, or was killed.

    Raises:
        InputError: another process, named with its host, holds the lock.
        StorageError: the file cannot be written.
    """
    file, is_locked = _locked(path)
    with file:
        holder = _holder(file)
        is_fresh = time.time() - os.fstat(file.fileno()).st_mtime < STALE_SECONDS
        if is_fresh and _may_live(holder, is_locked=is_locked):
            raise InputError(_message(path, holder) + f"; if it is dead, delete {path}")
        ended = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, ended), daemon=True)
        try:
            _write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            heart.start()
            yield
        finally:
            ended.set()
            path.unlink(missing_ok=True)  # while it is still locked: who waits for this file opens a new one


def _locked(path: Path) -> tuple[IO[str], bool]:
    """The lock file, open and, where its file system has locks, locked."""
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise _failure(path, error) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, True
            file.close()  # its last holder has just removed it
        except BlockingIOError:
            message = _message(path, _holder(file))
            file.close()
            raise InputError(message) from None
        except OSError:
            return file, False


def _may_live(holder: dict[str, object], *, is_locked: bool) -> bool:
    """Whether the process that a lock file names may be running."""
    pid, host = holder.get("pid"), holder.get("host")
    if host is None or host != socket.gethostname():
        return host is not None
    if is_locked or pid == os.getpid():  # a lock of this machine cannot be had while its holder runs
        return False
    try:
        os.kill(int(str(pid)), 0)
    except PermissionError:  # somebody else's
        return True
    except (OSError, ValueError, OverflowError):  # gone, or never a number
        return False
    return True


def _message(path: Path, holder: dict[str, object]) -> str:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
    return f"{path.parent}: {who} is training here; wait for it, or choose another XP_PATH"


def _holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        content = json.loads(file.read() or "{}")
    except ValueError:  # a holder that died while writing
        return {}
    return content if isinstance(content, dict) else {}


def _write(file: IO[str], text: str) -> None:
    os.ftruncate(file.fileno(), 0)
    try:
        os.write(file.fileno(), text.encode())  # unbuffered: on a full disk nothing is left to fail again later
    except OSError as error:
        raise _failure(Path(file.name), error) from None


def _failure(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: could not be written ({error.strerror}); make room, or choose another XP_PATH")


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
