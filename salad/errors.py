"""Errors that stop the program with one line, and their exit statuses."""

from __future__ import annotations

import re
import signal

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class StoppedError(Exception):
    """Error that stops the program with one line and no traceback; any other exception is an internal error."""

    exit_code = 1


class InputError(StoppedError, ValueError):
    """Invalid input from the user; the message says in one line what is wrong, where, and the way out."""

    exit_code = 2


class DivergedError(StoppedError, RuntimeError):
    """Training diverged: a loss or a weight is not finite, or all embeddings have collapsed to one point."""


class MemoryShortError(StoppedError, MemoryError):
    """Failure to allocate the memory of a training step."""


class StorageError(StoppedError, OSError):
    """Failure to write a file of the run: the disk is full or read-only."""


class RunInterruptedError(StoppedError):
    """Interruption by a signal, after the state of the run was saved.

    Args:
        received: signal that interrupted the run.
        advice: text that says how to continue.
    """

    def __init__(self, received: signal.Signals, advice: str = "its state is saved") -> None:
        super().__init__(f"interrupted by {received.name}; {advice}")
        self.received = received
        self.exit_code = 128 + received


def printable(text: object) -> str:
    r"""Escape the characters of a text that cannot stand in one line of UTF-8.

    A file name may contain line breaks, terminal commands and bytes that are not UTF-8. In every output (messages,
    logs and tables) they become ``\n``, ``\x1b`` and ``\udcff``.
    """
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))
