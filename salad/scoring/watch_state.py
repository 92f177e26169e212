"""Remember the films that a watch has scored, in a file that a restarted watch goes on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from salad.errors import InputError, printable
from salad.images.stamp import Stamp
from salad.input_files import parse_json, read_input
from salad.runs.atomic import atomic_file
from salad.runs.outputs import storage_error

logger = logging.getLogger(__name__)

MAX_STATE_BYTES = 2**29
MAX_GONE = 10_000  # films that are no longer there, but still remembered when the file is rewritten
SPARE_LINES = 10_000  # lines beyond two for each film after which the file is rewritten


class WatchState:
    """Stamps of the films that have been scored.

    The file has a line of facts and then a line for each film, appended once its score has been written. It is
    rewritten atomically at the start, and when films that changed have made it long.

    Args:
        path: state file; None to remember in memory alone.
        folder: watched folder.
        facts: further facts that a restarted watch has to share, such as the model; plain values of JSON.

    Raises:
        InputError: the file is no state file, or one of another folder or with other facts.
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path | None, *, folder: Path, facts: dict[str, Any] | None = None) -> None:
        self.path, self.folder = path, folder
        self.facts = {"watched": printable(folder.resolve()), **(facts or {})}
        self.stamps: dict[str, Stamp] = {}
        self._num_lines = 0
        if path is None:
            return
        if path.exists():
            self.stamps = dict(_parse(path, self.facts))
        self._rewrite()

    def stamp_of(self, path: Path) -> Stamp | None:
        """Return the stamp with which a film was scored; None if it was not."""
        return self.stamps.get(self._name(path))

    def remember(self, path: Path, stamp: Stamp) -> None:
        """Remember a film.

        Raises:
            StorageError: the file cannot be written.
        """
        name = self._name(path)
        self.stamps[name] = stamp
        if self.path is None:
            return
        if not self.path.exists():  # removed since the start: without its first line, it would be no state file
            self._rewrite()
            return
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(_line([name, *stamp]))
        except OSError as error:
            raise storage_error(self.path, error) from None
        self._num_lines += 1
        if self._num_lines > 2 * len(self.stamps) + SPARE_LINES:
            self._rewrite()

    def _rewrite(self) -> None:
        """Write the file anew, without most of the films that are gone."""
        assert self.path is not None, "checked by the callers"
        gone = [name for name in self.stamps if not (self.folder / name).exists()]
        for name in gone[: max(0, len(gone) - MAX_GONE)]:
            del self.stamps[name]
        with atomic_file(self.path) as temporary, temporary.open("wb") as file:
            file.write(_line(self.facts))
            file.writelines(_line([name, *stamp]) for name, stamp in self.stamps.items())
        self._num_lines = len(self.stamps)

    def _name(self, path: Path) -> str:
        """Name a film by its path in the folder."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else path.as_posix()


def _line(value: object) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"  # file names that are not UTF-8 become escapes


def _parse(path: Path, facts: dict[str, Any]) -> Iterable[tuple[str, Stamp]]:
    """Read a state file, and check that it is one and has these facts; damaged lines are left out with a warning."""
    where = printable(path)
    try:
        first, *lines, torn = read_input(path, most=MAX_STATE_BYTES).split(b"\n")  # the last line of a killed process
        saved = parse_json(first)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}); --state names another file") from None
    except ValueError:
        saved, lines, torn = None, [], b""
    if not isinstance(saved, dict) or "watched" not in saved:
        raise InputError(
            f"{where}: is no state file of --watch, or a damaged one: move it away, or give another --state"
        )
    for name, value in facts.items():
        if saved.get(name) != value:
            raise InputError(
                f"{where}: is of a watch with another {name} ({printable(saved.get(name))[:200]}, now "
                f"{printable(value)[:200]}): give another --out and --state"
            )
    entries = [entry for line in lines if (entry := _entry(line)) is not None]
    if num_bad := len(lines) - len(entries):
        logger.warning("%s: %d of %d lines are damaged: their films are scored again", where, num_bad, len(lines))
    if torn:
        logger.warning("%s: the last line is not complete: its film is scored again", where)
    return entries


def _entry(line: bytes) -> tuple[str, Stamp] | None:
    """Parse a line of a film; None if it is damaged."""
    try:
        name, *numbers = parse_json(line)
        stamp = Stamp(*numbers)
    except (ValueError, TypeError):
        return None
    is_whole = isinstance(name, str) and all(type(number) is int for number in stamp)
    return (name, stamp) if is_whole else None
