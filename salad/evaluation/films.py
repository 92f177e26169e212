"""Measure the kind of films, their framing, grey levels and sharpness, from pixels and registration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salad.images.grey_levels import GreyLevels

Films = Mapping[str, NDArray[np.float64]]
"""Values of each measurement of some films, finite, by the names of `MEASUREMENTS`; unknown ones are missing."""

MAX_KEPT = 500  # values of a measurement that a calibration keeps
TINY = 1e-2  # grey levels: the least contrast and sharpness that are told apart


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Measurement of a film: the differences that count as drift, and the words for them.

    Attributes:
        topic: name of the measurement in a list of what was compared.
        subject: beginning of a sentence about a difference.
        unit: unit of the difference in the sentence.
        more: end of the sentence where the films that are scored have more of it.
        less: end of the sentence where they have less.
        limit: largest difference between films of one kind, in standard deviations of the calibration films.
        least: smallest difference worth a word, as a ratio minus 1 or in the unit of the measurement.
        is_ratio: True to compare by ratio, which needs values above 0; False by difference.
        scale: factor from the measurement to the unit of the sentence.
    """

    topic: str
    subject: str
    unit: str = "%"
    more: str
    less: str
    limit: float = 1.0
    least: float
    is_ratio: bool = True
    scale: float = 100

    def on_scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert values to a scale on which differences are compared."""
        return np.log(np.maximum(values, TINY)) if self.is_ratio else values

    def describe(self, difference: float) -> str:
        """Describe a difference, on the scale of `on_scale`, in words."""
        size = self.scale * abs(np.expm1(difference) if self.is_ratio else difference)
        return f"{self.subject} {size:.0f} {self.unit} {self.more if difference > 0 else self.less}"


# Opacities lower contrast and sharpness, by up to 1.5 and 2.2 standard deviations of the normal films in folders of
# pneumonias: the limits of these two lie beyond, so that sick films of the same kind are no drift.
MEASUREMENTS = {
    "brightness": Measurement(
        topic="brightness",
        subject="the mean grey level is",
        unit="of 255",
        more="higher",
        less="lower",
        least=8,
        is_ratio=False,
        scale=1,
    ),
    "contrast": Measurement(
        topic="contrast", subject="the contrast is", more="higher", less="lower", limit=2, least=0.1
    ),
    "sharpness": Measurement(
        topic="sharpness", subject="the sharpness is", more="higher", less="lower", limit=2.5, least=0.2
    ),
    "aspect": Measurement(
        topic="shape", subject="the film is, for its height,", more="wider", less="narrower", least=0.05
    ),
    "chest_width": Measurement(topic="framing", subject="the chest is", more="wider", less="narrower", least=0.04),
    "chest_height": Measurement(topic="framing", subject="the chest is", more="taller", less="shorter", least=0.04),
    "chest_right": Measurement(
        topic="framing",
        subject="the chest stands",
        unit="% of the side",
        more="further right",
        less="further left",
        least=0.02,
        is_ratio=False,
    ),
    "chest_down": Measurement(
        topic="framing",
        subject="the chest stands",
        unit="% of the side",
        more="lower",
        less="higher",
        least=0.02,
        is_ratio=False,
    ),
}


def measure_levels(levels: GreyLevels) -> dict[str, NDArray[np.float64]]:
    """Name the grey levels of decoded films: ``brightness``, ``contrast`` and ``sharpness``, (B,) each."""
    return {"brightness": levels.mean, "contrast": levels.std, "sharpness": levels.sharpness}


def measure_framing(params: NDArray[np.floating] | None) -> dict[str, NDArray[np.float64]]:
    """Measure the framing of films by their registration.

    Args:
        params: result of `register`, (B, 4); None without registration, where the framing is unknown.

    Returns:
        (B,) by name: width and height of the chest, as ratios to those in the template, and its place to the right of
        and below that in the template, as shares of the side.
    """
    if params is None:
        return {}
    width, height, right, down = params.astype(np.float64).T
    return {
        "chest_width": np.exp(width),
        "chest_height": np.exp(height),
        "chest_right": right / 2,  # half sides
        "chest_down": down / 2,
    }


def join_films(parts: Sequence[Films]) -> dict[str, NDArray[np.float64]]:
    """Join measurements of several groups of films, all of the same names, in their order; empty for no group."""
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def summarise_films(films: Films) -> dict[str, NDArray[np.float64]]:
    """Reduce each measurement to at most `MAX_KEPT` quantiles: of fewer films, their values in ascending order."""
    return {
        name: np.quantile(values, np.linspace(0, 1, min(len(values), MAX_KEPT)))
        for name, values in films.items()
        if len(values)
    }
