"""Calibrate scores on the normal images of val/: percentiles, the threshold, and standardised scores to fuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from salad.errors import InputError
from salad.evaluation.films import Films, summarise_films

DIGITS = 6  # of a score where it is shown; files of numbers hold it in full


def shown_score(score: float) -> str:
    """Format a score, a distance on its scale or a threshold for reading: 6 digits, such as ``1.08779``."""
    return f"{score:#.{DIGITS}g}".removesuffix(".")


@dataclass(frozen=True)
class Calibration:
    """Scores of normal images that were held out of the training; no abnormal image is among them.

    Attributes:
        scores: finite, in ascending order, (N,), N at least 1.
        films: quantiles of each measurement of these images, see `summarise_films`; empty if unknown.
    """

    scores: np.ndarray
    films: Films = field(default_factory=dict)

    @classmethod
    def of(cls, scores: ArrayLike, films: Films | None = None) -> Calibration:
        """Make a calibration from scores in any order.

        Args:
            scores: scores of normal images, (N,).
            films: measurements of the same images; None if they are unknown.

        Raises:
            InputError: there are no scores, or one of them is not finite.
        """
        values = np.sort(np.asarray(scores, dtype=np.float64).ravel())
        if not len(values) or not np.isfinite(values).all():
            raise InputError("a calibration needs the scores of normal images, all finite")
        return cls(values, summarise_films(films or {}))

    def percentile(self, scores: ArrayLike) -> np.ndarray:
        """Compute the share of validation normals below each score, in percent; ties count half."""
        values = np.asarray(scores, dtype=np.float64)
        below = np.searchsorted(self.scores, values, "left") + np.searchsorted(self.scores, values, "right")
        return below * (50 / len(self.scores))

    def threshold(self, specificity: float) -> float:
        """Find the smallest validation score that gives this specificity on the validation normals.

        An image is predicted abnormal if its score is larger than the threshold.

        Args:
            specificity: share of the validation normals that score at or below the threshold, in (0, 1].
        """
        rank = int(np.ceil(round(specificity * len(self.scores), 9)))
        return float(self.scores[max(rank, 1) - 1])


@dataclass(frozen=True)
class Standards:
    """Mean and standard deviation of each part of a fused score, over normal images held out of the training.

    Attributes:
        of: mean and standard deviation by name of the part.
    """

    of: dict[str, tuple[float, float]]

    @classmethod
    def measure(cls, parts: Mapping[str, np.ndarray]) -> Standards:
        """Measure mean and standard deviation of each part.

        Args:
            parts: scores of the validation normals by name of the part, (N,) each, without abnormal images.

        Raises:
            InputError: there are fewer than two images.
        """
        num_normals = min(map(len, parts.values()))
        if num_normals < 2:
            raise no_standards(num_normals)
        return cls({name: (float(part.mean()), max(float(part.std(ddof=1)), 1e-12)) for name, part in parts.items()})

    def standardize(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Express each part, (N,), in standard deviations above the mean of the normal images."""
        return {name: (parts[name] - mean) / std for name, (mean, std) in self.of.items()}

    def fuse(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Average the standardised parts, (N,) each, to one score, (N,)."""
        fused: np.ndarray = np.mean([*self.standardize(parts).values()], axis=0)
        return fused


def no_standards(num_normals: int) -> InputError:
    """Make the error for too few normal images to standardise the parts of a fused score."""
    return InputError(
        f"--score fused standardises its parts by normal images that are held out, 2 at least, but there are "
        f"{num_normals}: put normal images into val/, train with --val_share 0.1 (a Detector with val_share=0.1), or "
        "take another --score"
    )


def combine(parts: Mapping[str, np.ndarray], standards: Standards | None) -> np.ndarray:
    """Combine the parts of a score, (N,) each, to one score, (N,).

    Args:
        parts: scores by name of the part.
        standards: of the parts of a fused score; None where there is a single part, which is returned as it is.
    """
    if standards is not None:
        return standards.fuse(parts)
    (only,) = parts.values()
    return only
