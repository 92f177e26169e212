"""Errors that stop the program with one line, their exit statuses, and the escapes of all messages."""

from __future__ import annotations

import errno
import re
import signal
import sys

# control characters, line breaks, marks that turn the direction of writing, invisible characters, lone surrogates
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff]"
)
# what a message cuts in its middle: from how many characters on, how many it keeps at each end, and of which kind
TOO_LONG = ((60, 20, r"\d"), (400, 150, r"\S"), (1500, 700, "."))

NO_MEMORY = "out of memory: free some, or use a smaller --batch_size or --isize, or --amp bf16 in training"
NO_THREADS = (
    "this system starts no more threads: raise its limit of processes (ulimit -u), or use a smaller "
    "--n_jobs_dataloader and OMP_NUM_THREADS"
)
NO_HANDLES = "too many open files: raise the limit (ulimit -n), or use a smaller --n_jobs_dataloader"
SHORTAGES = {errno.ENOMEM: NO_MEMORY, errno.EAGAIN: NO_THREADS, errno.EMFILE: NO_HANDLES, errno.ENFILE: NO_HANDLES}
SHORTAGE_TEXTS = {  # of errors without a number, from torch and from the loader of libraries
    re.compile(r"CPUAllocator|bad_alloc|annot allocate memory|failed to map segment|[Oo]ut of memory"): NO_MEMORY,
    re.compile(r"start new thread|Thread creation failed|Resource temporarily unavailable"): NO_THREADS,
    re.compile(r"Too many open files"): NO_HANDLES,
}
FAILING_DISK = ("EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EREMOTEIO", "EHOSTDOWN")


class StoppedError(Exception):
    """Error that stops the program with one line and no traceback; any other exception is an internal error."""

    exit_code = 1


class InputError(StoppedError, ValueError):
    """Invalid input from the user; the message says in one line what is wrong, where, and the way out."""

    exit_code = 2


class DamagedError(InputError):
    """Damaged file: it was read, and its content is not what was written."""


class DivergedError(StoppedError, RuntimeError):
    """Training diverged: a loss or a weight is not finite, or all embeddings have collapsed to one point."""


class StorageError(StoppedError, OSError):
    """Failure of a disk: it is full, read-only or defective."""


class MachineError(StoppedError):
    """Shortage of memory, threads or open files; it says nothing about the file at hand."""


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
    r"""Escape the characters of a text that cannot stand visibly in one line of UTF-8.

    A file name may contain line breaks, terminal commands, marks that reverse the direction of writing and bytes that
    are not UTF-8. In every output (messages, logs and tables) they become ``\n``, ``\x1b``, ``\u202e`` and ``\udcff``.
    """
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def printable_lines(text: object) -> str:
    """Make each line of a text `printable`."""
    return "\n".join(map(printable, str(text).split("\n")))


def cut(text: str) -> str:
    """Cut numbers, words and lines that are too long for a message in their middle, so that its end stays readable."""
    for size, kept, kind in TOO_LONG:
        text = re.sub(rf"({kind}{{{kept}}}){kind}{{{size - 2 * kept},}}({kind}{{{kept}}})", r"\1...\2", text)
    return text


def say(text: object) -> None:
    """Print a message on stderr, made `printable` and cut."""
    print(cut(printable_lines(text)), file=sys.stderr, flush=True)


def give(text: object) -> None:
    """Print a result on stdout, made `printable` line by line."""
    print(printable_lines(text), flush=True)


def shortage(error: BaseException) -> str | None:
    """Word the shortage of the machine that an error, or the error behind it, reports; None for any other error."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return NO_MEMORY
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        return SHORTAGES[error.errno]
    worded = next((reason for pattern, reason in SHORTAGE_TEXTS.items() if pattern.search(str(error))), None)
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return worded or (shortage(behind) if behind is not None else None)


def refuse_shortage(error: BaseException, where: object) -> None:
    """Raise `MachineError` if an error reports a shortage of the machine.

    A handler of exceptions of any type has to call it first: a file that could not be read is not a damaged file.
    """
    if reason := shortage(error):
        raise MachineError(f"{printable(where)}: {reason} ({printable(error)[:200]})") from None


def refuse_disk(error: OSError, where: object) -> None:
    """Raise `StorageError` if an error reports a defective disk or a lost network share."""
    if errno.errorcode.get(error.errno or 0) in FAILING_DISK:
        raise StorageError(f"{printable(where)}: cannot be read: its disk or network share fails ({error.strerror})")
