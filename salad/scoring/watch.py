"""Watch a folder: each film is scored once it has stood still, and again when it has changed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from salad.datasets.layout import check_there
from salad.errors import InputError, printable
from salad.images.find import images_below
from salad.images.stamp import Stamp, read_stamp
from salad.scoring.watch_state import WatchState

AGAIN = "scored again: the file has changed"


class Counts(NamedTuple):
    """Numbers of films that a watch has seen through; `num_bad` cannot be read, and `num_again` were scored again."""

    num_scored: int = 0
    num_bad: int = 0
    num_again: int = 0


class Watch:
    """Films of a folder and its sub-folders, each as it arrives.

    A film has arrived when two looks in a row find the same `Stamp`. Its score counts only if the stamp is the same
    after the reading, too; else the film is waited for again.

    Args:
        folder: folder to watch.
        interval: time between two looks, in seconds.
        state: films that have been scored.
        say: function that shows a line to the user.
        wait: function that waits for a number of seconds.

    Attributes:
        counts: numbers of films so far.

    Raises:
        InputError: the folder does not exist.
    """

    def __init__(
        self,
        folder: Path,
        *,
        interval: float,
        state: WatchState,
        say: Callable[[str], object],
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        check_folder(folder, flag="--watch")
        self.folder, self.interval, self.state, self.say, self.wait = folder, interval, state, say, wait
        self.counts = Counts()
        self.num_arriving = 0
        self._under_way: dict[Path, Stamp] = {}
        self._bad: dict[Path, Stamp] = {}  # not in the state: the reason may lie in the machine

    def also(self, sources: Iterable[Path | None]) -> Iterator[Path | None]:
        """Yield other sources, and see films of the watched folder through as if they had just arrived."""
        for source in sources:
            relative = os.path.relpath(source, self.folder) if source is not None else os.pardir
            path = self.folder / relative
            is_outside = Path(relative).parts[:1] == (os.pardir,)
            if is_outside or (stamp := film_stamp(path)) is None:
                yield source
            elif self._last(path) != stamp and path not in self._under_way:
                self._under_way[path] = stamp
                yield path

    def films(self) -> Iterator[Path | None]:
        """Yield films as they arrive, without end; None before it waits."""
        before: dict[Path, Stamp] = {}
        is_first, was_there = True, True
        while True:
            is_there = self.folder.is_dir()
            if was_there and not is_there:
                self.say(f"{printable(self.folder)}: is gone; waiting for it to come back")
            now = self._look() if is_there else {}
            new = {path: stamp for path, stamp in now.items() if self._last(path) != stamp}
            if is_first:
                self._say_start(num_films=len(now), num_new=len(new))
            still = [path for path, stamp in new.items() if before.get(path) == stamp]
            self.num_arriving = len(new) - len(still)
            for path in still:
                self._under_way[path] = new[path]
                yield path
            before, is_first, was_there = now, False, is_there
            yield None
            self.wait(self.interval)

    def has_changed(self, path: Path) -> bool:
        """Check if a film that `films` gave has changed since; it will be given again."""
        stamp = self._under_way.get(path)
        return stamp is not None and stamp != film_stamp(path)

    def note(self, path: Path) -> str | None:
        """Say that a film is scored again; None for the first time."""
        return AGAIN if path in self._under_way and self._last(path) is not None else None

    def remember(self, path: Path, *, is_bad: bool) -> None:
        """Remember a film whose line has been written; paths that `films` did not give do not count.

        One that cannot be read is tried again once it changes, and by the next watch.

        Raises:
            StorageError: the state file cannot be written.
        """
        stamp = self._under_way.pop(path, None)
        if stamp is None:
            return
        is_again = self._last(path) is not None
        if is_bad:
            self._bad[path] = stamp
        else:
            self.state.remember(path, stamp)
            self._bad.pop(path, None)
        before = self.counts
        self.counts = Counts(before.num_scored + 1, before.num_bad + is_bad, before.num_again + is_again)

    def summary(self) -> str:
        """Describe the films so far in one line."""
        counts = self.counts
        line = (
            f"watched {printable(self.folder)}: {counts.num_scored} images, {counts.num_bad} of them cannot be read, "
            f"{counts.num_again} scored again"
        )
        return line + (f"; {self.num_arriving} were still arriving" if self.num_arriving else "")

    def _last(self, path: Path) -> Stamp | None:
        """Return the stamp with which a film was last read; None if it was not."""
        return self._bad.get(path) or self.state.stamp_of(path)

    def _look(self) -> dict[Path, Stamp]:
        """Read the stamps of all films."""
        return {path: stamp for path in images_below(self.folder) if (stamp := film_stamp(path)) is not None}

    def _say_start(self, *, num_films: int, num_new: int) -> None:
        known = f", {num_films - num_new} of them scored before" if num_films > num_new else ""
        self.say(
            f"watching {printable(self.folder)} every {self.interval:g} s: {num_films} images are there{known}; "
            "Ctrl-C ends it"
        )


def film_stamp(path: Path) -> Stamp | None:
    """Read the stamp of a file; None if it is empty, removed, or no regular file."""
    try:
        stamp, mode = read_stamp(path), path.stat().st_mode
    except (OSError, ValueError):
        return None
    return stamp if stamp.size and stat.S_ISREG(mode) else None


def check_folder(folder: Path, *, flag: str) -> None:
    """Raise `InputError` if the folder of an option is none."""
    check_there(folder, option=flag)
    if not folder.is_dir():
        raise InputError(f"{flag} {printable(folder)}: is a file, not a folder")
