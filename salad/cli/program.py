"""Command-line programs: click commands whose errors are one line on stderr and an exit status."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from salad.config import OPTIONS, SECTIONS
from salad.config.declare import path_of
from salad.distributed.team import SOLO, Team, is_lost_peer, mute_all_but_one_a_machine
from salad.errors import StoppedError, cut, printable, shortage
from salad.packages import missing_package
from salad.runs.log import prepare_output

logger = logging.getLogger(__name__)

REPORT = "this is a bug: run again with --debug and report it with the traceback"
MAX_WIDTH = 110  # columns of a help text
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH}
COMMAND_SECTION = "this command"
SECTION_OF = {"normal": "data"}  # options that `Config` does not declare
LOST_PEER = (
    "Error: another process of this run died without a message (killed? out of memory?); torchrun tells which one"
)
NO_SUCH_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class PathType(click.Path):
    """Path on the command line; an empty one, which would mean the current folder, is refused."""

    name = "path"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert a word to a path."""
        if isinstance(value, str):
            try:
                path_of(value)
            except ValueError as error:
                self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


class Program(click.Command):
    """Command whose messages are fit for a terminal; only one process of each machine prints them."""

    def main(self, *words: Any, **options: Any) -> Any:
        """Set up the output and run the command."""
        mute_all_but_one_a_machine()
        prepare_output()
        return super().main(*words, **options)

    def make_context(self, *words: Any, **options: Any) -> click.Context:
        """Read the command line."""
        with _fit_for_terminal():
            return super().make_context(*words, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with the values of the command line."""
        with _fit_for_terminal():
            return super().invoke(ctx)


class Group(Program, click.Group):
    """Group of commands, as `Program`, which its help lists in the order of their use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names of the commands."""
        return [*self.commands]


@contextlib.contextmanager
def _fit_for_terminal() -> Iterator[None]:
    """Escape and cut the message of an error of the command line, which quotes its words."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = cut(printable(error.message))
        raise


class Command(Program):
    """Command with a help text that lists options by section.

    Attributes:
        short_form: second form of its arguments, for the usage line; None if there is one form.
    """

    short_form: str | None = None

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """List the words of the usage line, with both forms of the arguments."""
        pieces = super().collect_usage_pieces(ctx)
        return [*pieces, "|", self.short_form] if self.short_form else pieces

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each section, and last those of this command only."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in (*SECTIONS, COMMAND_SECTION)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                name = parameter.name or ""
                section = OPTIONS[name].section if name in OPTIONS else SECTION_OF.get(name, COMMAND_SECTION)
                sections[section].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name.capitalize()):
                    formatter.write_dl(records)


@contextlib.contextmanager
def exit_status(*, debug: bool, team: Team = SOLO, says_interruption: bool = True) -> Iterator[None]:
    """Turn an error into one line on stderr and an exit status, and end all processes of the team.

    Args:
        debug: True to show the traceback of an internal error.
        team: processes of the run.
        says_interruption: False to end silently at a signal: before its processes know each other, a team would report
            the signal by which torchrun ends the others beside the failure of one.
    """
    try:
        with ended_by_sigterm():
            yield
    except StoppedError as error:
        team.end(f"Error: {printable(error)}", error.exit_code)
    except KeyboardInterrupt as error:
        received = error.args[0] if error.args else signal.SIGINT
        team.end(f"Error: interrupted by {received.name}" if says_interruption else "", 128 + received)
    except BrokenPipeError:  # the reader of stdout, such as head, has closed it: click exits silently
        raise
    except Exception as error:
        if is_lost_peer(error):
            team.end(LOST_PEER, 1)
        if isinstance(error, ModuleNotFoundError) and (said := missing_package(error)):
            team.end(f"Error: {said}", 2)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            team.end(f"Error: {printable(error.filename or 'a file')}: cannot be written ({error.strerror})", 1)
        if reason := shortage(error):
            team.end(f"Error: {reason} ({printable(error)[:200]})", 1)
        logger.debug("internal error", exc_info=True)
        if debug and team.size == 1:
            team.end(traceback.format_exc(), 1)
        if isinstance(error, OSError) and error.errno and error.filename:
            team.end(f"Error: {printable(error.filename)}: {error.strerror}", 2 if error.errno in NO_SUCH_PATH else 1)
        message = f"Internal error: {type(error).__name__}: {printable(error)}; {REPORT}"
        team.end(traceback.format_exc() if debug else message, 1)


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does, with a line and what has to be tidied up."""
    is_possible = threading.current_thread() is threading.main_thread()  # Python allows handlers there only
    before = signal.signal(signal.SIGTERM, _interrupt) if is_possible else None
    try:
        yield
    finally:
        if is_possible:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, _: object) -> None:
    """Raise the exception of an interruption."""
    raise KeyboardInterrupt(signal.Signals(number))
