"""Signals that end a run between two steps."""

import os
import signal
import threading
from types import FrameType
from typing import Any

# from Ctrl-C, from kill and schedulers, and from Slurm's pre-emption
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupts:
    """Context that records the first signal instead of ending the process; a second Ctrl-C ends it at once.

    Attributes:
        received: first signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers in the main thread only
            self._before = {number: signal.signal(number, self._record) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, number: int, _: FrameType | None) -> None:
        """Record the first signal; end the process on a further Ctrl-C."""
        if self.received is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = self.received or signal.Signals(number)
