"""What the program says when it stops, and with which exit status."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class StoppedError(Exception):
    """The program stops with one line, no traceback; anything else that is raised is an internal error."""

    exit_code = 1


class InputError(StoppedError, ValueError):
    """Bad input from the user: one line that says what, where, and the way out."""

    exit_code = 2


class DivergedError(StoppedError, RuntimeError):
    """Training cannot go on: a loss or the weights are not finite, or all embeddings have become one point."""


class StorageError(StoppedError, OSError):
    """A file of the run could not be written: the disk is full or read-only."""


class RunInterruptedError(StoppedError):
    """A signal asked the run to end; its state is saved.

    Args:
        received: the signal.
        advice: how to go on.
    """

    def __init__(self, received: signal.Signals, advice: str = "its state is saved") -> None:
        super().__init__(f"interrupted by {received.name}; {advice}")
        self.received = received
        self.exit_code = 128 + received


def printable(text: object) -> str:
    r"""Text for a line of UTF-8: what cannot stand there is escaped.

    A file name may hold line breaks, terminal commands and bytes that are no UTF-8; they become ``\n``,
    ``\x1b`` and ``\udcff`` in every output: messages, logs and tables.
    """
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
