"""Write the lines of predict to stdout, to a new file, or to the end of a file."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from salad.errors import InputError, printable, say
from salad.input_files import open_input
from salad.runs.outputs import is_special, partial_file, storage_error
from salad.scoring.row import Form, Row

logger = logging.getLogger(__name__)

MAX_LINE = 2**20  # bytes of the first line of a file that lines are appended to
BLOCK = 2**16


class Lines:
    """Open output.

    Args:
        write: function that writes bytes at once.
        form: format of the lines.

    Attributes:
        num_rows: number of lines written.
        num_bad: number of those of images that cannot be read.
    """

    def __init__(self, write: Callable[[bytes], object], form: Form) -> None:
        self.write, self.form = write, form
        self.num_rows = self.num_bad = 0

    def write_header(self) -> Lines:
        """Write the header, which only CSV has, and return the output."""
        if self.form.header:
            self.write(self.form.header.encode())
        return self

    def send(self, row: Row) -> None:
        """Write a line."""
        self.write(self.form.line(row).encode())
        self.num_rows += 1
        self.num_bad += row.score is None


@contextlib.contextmanager
def open_lines(out: Path | None, *, form: Form, append: bool = False) -> Iterator[Lines]:
    """Open an output, and write its header.

    A new file takes the place of an old one at the end, if an image could be read. Before that, the lines are in a file
    beside it, which stays after an error and is named. Other outputs have each line as soon as it is written.

    Args:
        out: output file; None for stdout.
        form: format of the lines.
        append: True to write to the end of the file, which may exist.

    Raises:
        InputError: the file to append to holds something else, or no image could be read.
        StorageError: the file cannot be written.
    """
    if out is None or is_stdout(out):
        lines = Lines(_write_stdout, form)
        yield lines.write_header()
    elif append and not is_special(out):
        with _appending(out, form) as lines:
            yield lines
    elif is_special(out):
        if out.is_fifo():
            say(f"{printable(out)}: a named pipe, which is written once a program reads from it")
        with _opened(out, "wb") as file:
            lines = Lines(lambda line: _write(file, line, out), form)
            yield lines.write_header()
    else:
        with _replacing(out, form) as lines:
            yield lines


@contextlib.contextmanager
def _replacing(out: Path, form: Form) -> Iterator[Lines]:
    """Write a new file, and replace the old one by it at the end if an image could be read."""
    with partial_file(out) as partial, _opened(partial, "wb") as file:
        lines = Lines(lambda line: _write(file, line, out), form)
        kept = f"{printable(out)} is {'as it was' if out.exists() else 'not written'}"
        try:
            yield lines.write_header()
        except BaseException:
            _forget_or_say(file, lines, f"{kept}; the {{}} lines so far are in {printable(partial)}")
            raise
        if lines.num_bad == lines.num_rows:
            _forget_or_say(file, lines, f"{kept}; the reasons are in {printable(partial)}")
            raise no_images(lines)


def no_images(lines: Lines) -> InputError:
    """Make the error for images none of which can be read."""
    return InputError(f"none of the {lines.num_rows} images can be read" if lines.num_rows else "there are no images")


def _forget_or_say(file: BinaryIO, lines: Lines, message: str) -> None:
    """Say where the lines are, or empty the file, which is then removed, if there are none."""
    if lines.num_rows:
        say(message.format(lines.num_rows))
    else:
        file.truncate(0)


@contextlib.contextmanager
def _appending(out: Path, form: Form) -> Iterator[Lines]:
    """Write to the end of a file, after its last complete line."""
    with contextlib.ExitStack() as stack:
        file, is_empty = stack.enter_context(_end_of(out, form))

        def write(line: bytes) -> None:
            nonlocal file, is_empty
            if not _is_same(file, out):
                logger.warning("%s: has been moved or removed: further lines are written to a new one", printable(out))
                stack.close()
                file, is_empty = stack.enter_context(_end_of(out, form))
                if is_empty:
                    lines.write_header()
            _write(file, line, out)

        lines = Lines(write, form)
        yield lines.write_header() if is_empty else lines


@contextlib.contextmanager
def _end_of(out: Path, form: Form) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file after its last complete line, and tell if it has none."""
    length = whole_length(out, form)
    with _opened(out, "ab") as file:
        _lock(file, out)
        if file.tell() > length:
            logger.warning("%s: its last line is not complete, and is cut off", printable(out))
            file.truncate(length)
        yield file, not length


def _is_same(file: BinaryIO, out: Path) -> bool:
    """Check if a path still names an open file."""
    try:
        return os.path.samestat(out.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def whole_length(out: Path, form: Form) -> int:
    """Measure the complete lines of a file of predict, in bytes; 0 if there are none.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    if not out.exists():
        return 0
    try:
        with open_input(out) as file:
            first = file.readline(MAX_LINE)
            is_ours = form.is_begun(first)
            end = file.seek(0, os.SEEK_END)
            while is_ours and end > 0:
                start = max(0, end - BLOCK)
                file.seek(start)
                at = file.read(end - start).rfind(b"\n")
                if at >= 0:
                    return start + at + 1
                end = start
    except OSError as error:
        raise InputError(f"--out {printable(out)}: cannot be read ({error.strerror})") from None
    if not is_ours:
        raise InputError(
            f"--out {printable(out)}: cannot be appended to: it does not begin like {form.name} of this version, with "
            f"the columns {','.join(form.columns)}; choose another file"
        )
    return 0


def is_stdout(out: Path) -> bool:
    """Check if a path is another name of stdout."""
    try:
        return os.path.samestat(out.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # no such file; stdout is not a file
        return False


@contextlib.contextmanager
def _opened(out: Path, mode: str) -> Iterator[BinaryIO]:
    """Open a file without a buffer."""
    try:
        file = out.open(mode, buffering=0)
    except OSError as error:
        raise storage_error(out, error) from None
    with file:
        yield file  # type: ignore[misc]


def _lock(file: BinaryIO, out: Path) -> None:
    """Lock a file against other processes that append to it, on systems that can."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"--out {printable(out)}: another process is appending to it: choose another file") from None
    except OSError:  # a file system without locks
        logger.debug("%s: cannot be locked", out)


def _write(file: BinaryIO, line: bytes, out: Path) -> None:
    """Write a line as a whole."""
    try:
        while line:
            line = line[file.write(line) :]
    except BrokenPipeError:
        _end_silently(file)
    except OSError as error:
        raise storage_error(out, error) from None


def _write_stdout(line: bytes) -> None:
    """Write a line to stdout.

    If its reader, such as head, closes the pipe, the program exits silently with the status of SIGPIPE.
    """
    try:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _end_silently(sys.stdout.buffer)
    except OSError as error:
        raise storage_error("stdout", error) from None


def _end_silently(file: BinaryIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # else Python prints an error at exit
    sys.exit(128 + signal.SIGPIPE)
