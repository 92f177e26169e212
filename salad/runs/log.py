"""Messages of the program on the screen and in log.txt, escaped and cut where they leave."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from salad.errors import cut, printable, printable_lines

LISTING = ("salad.datasets", "salad.images.listing")  # loggers of what is listed


class LineFormatter(logging.Formatter):
    """Formatter of messages of one line each, whatever names and values they quote.

    Args:
        form: format of a line.
        cuts: whether long messages are cut.
    """

    def __init__(self, form: str, *, cuts: bool) -> None:
        super().__init__(form)
        self._cuts = cuts

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the message of a record as a single line."""
        line = printable(record.message)
        record.message = cut(line) if self._cuts else line
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Format a traceback, whose lines may quote anything, too."""
        return printable_lines(super().formatException(ei))  # type: ignore[arg-type]


def prepare_output() -> None:
    """Set up stdout, stderr, warnings and the log of a command, before anything is printed.

    A character that the encoding of the terminal lacks is escaped, and so is all that a name in a message could do to a
    terminal.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _format_warning  # type: ignore[assignment]
    _replace_handlers(_to_screen(logging.WARNING))


def log_to_file(path: Path | None) -> logging.Handler | None:
    """Send the log to stderr and, with times and tracebacks, to a file; None for no file.

    Returns:
        The handler of the file.
    """
    logger = logging.getLogger("salad")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    _replace_handlers(_to_screen(logging.INFO))
    if path is None:
        return None
    to_file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    to_file.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s", cuts=False))
    to_file.addFilter(_is_new())
    to_file.handleError = lambda record: None  # type: ignore[method-assign]  # else a full disk prints an error for every message
    logger.addHandler(to_file)
    return to_file


def _is_new() -> Callable[[logging.LogRecord], bool]:
    """Make a filter that lets a message about the listing of a data set pass once: a command lists it several times."""
    said: set[str] = set()

    def passes(record: logging.LogRecord) -> bool:
        if not record.name.startswith(LISTING):
            return True
        message = record.getMessage()
        is_new = message not in said
        said.add(message)
        return is_new

    return passes


def _to_screen(level: int) -> logging.Handler:
    """Make the handler that writes to stderr."""
    to_screen = logging.StreamHandler()
    to_screen.addFilter(lambda record: not getattr(record, "only_in_file", False))
    to_screen.addFilter(_is_new())
    to_screen.setLevel(level)
    to_screen.setFormatter(LineFormatter("%(message)s", cuts=True))
    return to_screen


def _replace_handlers(handler: logging.Handler) -> None:
    """Let a handler take the place of all others."""
    logger = logging.getLogger("salad")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)


def _format_warning(message: object, category: type[Warning], *_: object) -> str:
    """Format a warning of a library as a single line, without the place in its code."""
    return f"{category.__name__}: {cut(printable(message))}\n"
