"""Compare the films that are scored with the normal films that the model was calibrated on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salad.evaluation.calibration import Calibration
from salad.evaluation.films import MEASUREMENTS, Films, Measurement

LEAST_FILMS = 5  # of either kind, for a statement
MAX_ABOVE = 0.10  # share of films above the 99th percentile of the calibration that is not worth a word
SURE = 2.0  # standard errors by which a difference has to exceed its limit
MEDIAN_ERROR = 1.2533  # standard error of a median, in standard errors of a mean
MAD_TO_SD = 1.4826
WAY_OUT = "enrol normal films like these, or calibrate with them (predict --calibrate)"


@dataclass(frozen=True, kw_only=True)
class Change:
    """Change of a measurement from the calibration films to those that are scored.

    Attributes:
        films: median of the films that are scored.
        calibrated: median of the calibration films.
        in_sds: difference in robust standard deviations of the calibration films, as logarithms for ratios; at most
            1000 in size.
        is_drift: True if the difference is larger than within films of one kind, beyond chance.
        words: the difference in words.
    """

    films: float
    calibrated: float
    in_sds: float
    is_drift: bool
    words: str


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Comparison of films with the calibration of a model.

    Attributes:
        num_films: number of films.
        num_calibrated: number of normal films behind the calibration; 0 without one.
        share_above: share of the films that score above the 99th percentile of the calibration; None without one.
        median_percentile: median percentile of the films in the calibration, in percent; None without one.
        changes: change of each measurement that both have, by name.
        is_measured: True if the calibration holds measurements of its films.
        are_normal: True if the films are known to be normal.
    """

    num_films: int
    num_calibrated: int
    share_above: float | None
    median_percentile: float | None
    changes: dict[str, Change]
    is_measured: bool
    are_normal: bool

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the measurements that tell films of another kind."""
        return tuple(name for name, change in self.changes.items() if change.is_drift)

    @property
    def has_high_share(self) -> bool:
        """True if more films score above the 99th percentile than chance and a few sick ones explain."""
        if self.share_above is None or min(self.num_films, self.num_calibrated) < LEAST_FILMS:
            return False
        # of few calibration films, the largest score may lie this far below the 99th percentile
        most = max(MAX_ABOVE, 1 - 0.01 ** (1 / self.num_calibrated))
        return bool(self.share_above > most + SURE * np.sqrt(most * (1 - most) / self.num_films))

    @property
    def is_found(self) -> bool:
        """True if a line is a reason to doubt the scores."""
        return bool(self.drifted) or self.has_high_share

    @property
    def lines(self) -> tuple[str, ...]:
        """The comparison in words: a line about the kind of films and, if many of them score high, one about that."""
        if not self.has_high_share:
            return (self._kind(),)
        assert self.share_above is not None, "high"
        meaning = "films of another kind" if self.are_normal else "many abnormal films, or films of another kind"
        share = (
            f"{self.share_above:.0%} of {self._films()} score above the 99th percentile of the "
            f"{self.num_calibrated} normal films that the model was calibrated on: {meaning}"
        )
        return (share,) if self.is_measured and not self.drifted else (self._kind(), share)

    @property
    def brief(self) -> str:
        """The comparison in a few words, without reasons and the way out."""
        return "; ".join(line.partition(": ")[0] for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return {
            "is_found": self.is_found,
            "lines": list(self.lines),
            "num_films": self.num_films,
            "num_calibrated": self.num_calibrated,
            "share_above_99th_percentile": self.share_above,
            "median_percentile": self.median_percentile,
            "medians": {name: asdict(change) for name, change in self.changes.items()},
        }

    def _films(self) -> str:
        return f"{self.num_films}{' normal' * self.are_normal} films"

    def _kind(self) -> str:
        """Say in a line if the films are of the kind of the calibration."""
        if not self.is_measured:
            return (
                "unknown: the model does not tell how the films that it was calibrated on look; calibrate anew "
                "(predict --calibrate)"
            )
        for number, what in ((self.num_films, "films"), (self.num_calibrated, "films behind the calibration")):
            if number < LEAST_FILMS:
                return f"too few {what} to tell: {number}, and {LEAST_FILMS} are needed"
        others = f"the {self.num_calibrated} normal films that the model was calibrated on"
        if not self.drifted:
            topics = [*dict.fromkeys(MEASUREMENTS[name].topic for name in self.changes)]
            return f"none: the medians of {self._films()} are near those of {others} in {_listed(topics)}"
        differences = _listed([self.changes[name].words for name in self.drifted])
        return f"in these {self._films()} {differences} than in {others} (medians): {WAY_OUT}"


def find_drift(
    scores: NDArray[np.float64], films: Films, calibration: Calibration | None, *, are_normal: bool = False
) -> Drift:
    """Compare films with the normal films of a calibration.

    Args:
        scores: scores of the films, (N,), N at least 1.
        films: measurements of the films.
        calibration: calibration of the model that scored them; None if it has none.
        are_normal: True if the films are known to be normal.
    """
    known = calibration.films if calibration else {}
    return Drift(
        num_films=len(scores),
        num_calibrated=len(calibration.scores) if calibration else 0,
        share_above=float(np.mean(scores > calibration.threshold(0.99))) if calibration else None,
        median_percentile=float(np.median(calibration.percentile(scores))) if calibration else None,
        changes={
            name: compare(measurement, films[name], known[name])
            for name, measurement in MEASUREMENTS.items()
            if min(len(of.get(name, ())) for of in (films, known)) >= LEAST_FILMS
        },
        is_measured=bool(known),
        are_normal=are_normal,
    )


def compare(measurement: Measurement, films: NDArray[np.float64], calibrated: NDArray[np.float64]) -> Change:
    """Compare a measurement of films, (N,), with that of calibration films, (M,); both at least `LEAST_FILMS`.

    The medians differ if they do so by more than the limit of the measurement, in robust standard deviations (median
    absolute deviations) of the calibration films, plus `SURE` standard errors of the difference.
    """
    new, old = measurement.on_scale(films), measurement.on_scale(calibrated)
    difference = float(np.median(new) - np.median(old))
    sd = _robust_sd(old) * (1 + 3 / len(old))  # few films are spread by more than they show
    error = MEDIAN_ERROR * max(sd, _robust_sd(new)) * np.sqrt(1 / len(new) + 1 / len(old))
    least = np.log1p(measurement.least) if measurement.is_ratio else measurement.least
    return Change(
        films=float(np.median(films)),
        calibrated=float(np.median(calibrated)),
        in_sds=float(np.clip(difference / max(sd, 1e-12), -1000, 1000)),
        is_drift=bool(abs(difference) > max(measurement.limit * sd, least) + SURE * error),
        words=measurement.describe(difference),
    )


def _robust_sd(values: NDArray[np.float64]) -> float:
    return float(MAD_TO_SD * np.median(np.abs(values - np.median(values))))


def _listed(words: list[str]) -> str:
    """Join words by commas and a last "and"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
