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

from salad.errors import InputError

HEARTBEAT_SECONDS = 30
STALE_SECONDS = 600  # without a heartbeat, a holder on another machine counts as dead


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock file while a run writes to its folder.

    The system drops the lock when its holder dies, so a killed run blocks nobody. Some network file systems
    keep locks to one machine: there the name in the file counts, as long as its heartbeat is fresh.

    Args:
        path: the lock file; there as long as somebody holds it, or was killed.

    Raises:
        InputError: another process, named with its host, holds the lock.
    """
    with _locked(path) as file:
        holder = _holder(file)
        elsewhere = holder.get("host") not in (None, socket.gethostname())
        if elsewhere and time.time() - path.stat().st_mtime < STALE_SECONDS:
            raise InputError(_message(path, holder) + f"; if it is dead, delete {path}")
        _write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        ended = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, ended), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            path.unlink(missing_ok=True)  # while it is still locked: who waits for this file opens a new one


def _locked(path: Path) -> IO[str]:
    """The lock file, open and locked."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
            file.close()  # its last holder has just removed it
        except BlockingIOError:
            message = _message(path, _holder(file))
            file.close()
            raise InputError(message) from None


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
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
