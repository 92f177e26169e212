"""Ending a run between two steps when a signal asks for it."""

import os
import signal
import threading
from types import FrameType
from typing import Any

# Ctrl-C; kill and schedulers; Slurm's pre-emption
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupts:
    """While entered, remembers the first signal instead of dying of it; a second Ctrl-C ends the process at once.

    Attributes:
        received: the signal that asked for an end, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {one: signal.signal(one, self._remember) for one in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = self.received or signal.Signals(number)
