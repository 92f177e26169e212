"""Log the scores and measurements of films as they are scored, for the drift."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salad.evaluation.calibration import Calibration
from salad.evaluation.drift import LEAST_FILMS, Drift, find_drift
from salad.evaluation.films import MEASUREMENTS, Films

WINDOW = 200  # films that an endless stream, or many small calls, are judged by
LOOK_EVERY = 20  # films between two looks at the drift of an endless stream
NAMES = ("score", *MEASUREMENTS)


class FilmLog:
    """Scores and measurements of the films last scored.

    Attributes:
        window: number of films to remember; None for all.
    """

    def __init__(self) -> None:
        self.window: int | None = None
        self._values = array("d")
        self._num_before = 0  # films of the calls before this one

    def __len__(self) -> int:
        return len(self._values) // len(NAMES)

    def begin(self) -> None:
        """Begin a call: once it has `LEAST_FILMS` films, it stands for itself; before, the last films count, too."""
        self._keep(WINDOW)
        self._num_before = len(self)

    def add(self, scores: ArrayLike, films: Films) -> None:
        """Add films.

        Args:
            scores: (B,).
            films: measurements, (B,) each; NaN where a film lacks one.
        """
        unknown = np.full(np.shape(scores), np.nan)
        columns = [scores, *(films.get(name, unknown) for name in MEASUREMENTS)]
        self._values.extend(np.stack(columns, axis=1).ravel().tolist())
        num_new = len(self) - self._num_before
        if self._num_before and num_new >= LEAST_FILMS:
            self._keep(num_new)
            self._num_before = 0
        if self.window is not None:
            self._keep(self.window)

    def read(self) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """Return the scores of the films, (N,), and their measurements, each of the films that have it."""
        scores, *columns = np.array(self._values, dtype=np.float64).reshape(-1, len(NAMES)).T
        known = {name: values[~np.isnan(values)] for name, values in zip(MEASUREMENTS, columns, strict=True)}
        return scores, {name: values for name, values in known.items() if len(values)}

    def drift(self, calibration: Calibration | None) -> Drift | None:
        """Compare the films with a calibration; None if there are no films."""
        return find_drift(*self.read(), calibration) if len(self) else None

    def _keep(self, most: int) -> None:
        """Forget all films but the last ones."""
        if len(self) > most:
            del self._values[: -most * len(NAMES)]


class DriftWatch:
    """Lookout for drift in an endless stream, which says it once when it begins and when it changes.

    Args:
        log: log of the stream.
        calibration: calibration of the model; None if it has none.
        say: function that shows a line to the user.
    """

    def __init__(self, log: FilmLog, calibration: Calibration | None, say: Callable[[str], object]) -> None:
        log.window = WINDOW
        self.log, self.calibration, self.say = log, calibration, say
        self._num_films = 0
        self._said: tuple[object, ...] = ((), False)

    def look(self) -> None:
        """Look at the drift after a film, every `LOOK_EVERY` films."""
        self._num_films += 1
        drift = None if self._num_films % LOOK_EVERY else self.log.drift(self.calibration)
        if drift is None:
            return
        found = drift.drifted, drift.has_high_share
        if found != self._said:
            self._said = found
            for line in drift.lines:
                self.say(f"drift of the last {drift.num_films} films: {line}")
