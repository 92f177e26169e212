"""How the processes of a run end together: the first that fails says why, the others follow it in silence."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from salad.errors import InputError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

logger = logging.getLogger(__name__)

KEY = "salad/end"
LOOK_SECONDS = 0.5
CONNECT_TIMEOUT = timedelta(minutes=5)
GRACE_SECONDS = 3  # in which a process that another one's end breaks may end by itself


class Alarm:
    """A word in the store that torchrun keeps for all processes, and a thread that looks for it.

    Without it, a process that waits for a failed one, on a GPU or for another machine, would wait for a timeout.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: int) -> None:
        self.store = self.open_store()
        self._rank = rank
        self._is_off = threading.Event()
        self._has_noted = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @staticmethod
    def open_store() -> Store:
        """A new connection to the store, as torchrun's environment variables say.

        Raises:
            InputError: there is none.
        """
        from torch.distributed.rendezvous import rendezvous

        try:
            store: Store = next(iter(rendezvous("env://", timeout=CONNECT_TIMEOUT)))[0]
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"RANK and WORLD_SIZE are set, as by torchrun, but the store that it keeps cannot be reached: {reason}"
            ) from None
        return store

    def off(self) -> None:
        """The run has ended well."""
        self._is_off.set()
        self._thread.join()

    def end(self, message: str, status: int) -> NoReturn:
        """End this process: with its message and status where it is the first to fail, else as the first did.

        The interpreter is not wound up: open channels to processes that are gone could keep it for ever.
        """
        own = json.dumps({"rank": self._rank, "machine": _machine(), "status": status, "message": message})
        try:
            first = self.store.compare_set(KEY, "", own).decode()
        except RuntimeError:  # the store is gone, and with it whoever could have spoken
            first = own
        if first != own:
            self._note(json.loads(first))
        elif message:
            print(message, file=sys.__stderr__, flush=True)
            _tell_torchrun(message)
        _exit(json.loads(first)["status"])

    def _watch(self) -> None:
        while not self._is_off.wait(LOOK_SECONDS):
            try:
                if not self.store.check([KEY]):
                    continue
                first = json.loads(self.store.get(KEY))
            except RuntimeError:  # torchrun is gone; an exchange will fail
                return
            if first["rank"] == self._rank:  # this process is ending itself
                return
            self._note(first)
            time.sleep(GRACE_SECONDS)
            _exit(first["status"])

    def _note(self, first: dict[str, Any]) -> None:
        """Log, once, why another process ended; on the screen too if that was on another machine."""
        if first["message"] and not self._has_noted.is_set():
            self._has_noted.set()
            on_this_machine = first["machine"] == _machine()
            logger.error("process %d: %s", first["rank"], first["message"], extra={"only_in_file": on_this_machine})


def _machine() -> str:
    return os.environ.get("GROUP_RANK", "0")


def _tell_torchrun(message: str) -> None:
    """Give torchrun's own report the cause, where it would say that there is none."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        content = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(content), encoding="utf-8")


def _exit(status: int) -> NoReturn:
    logging.shutdown()
    os._exit(status)
