"""Compute what the plots draw, of bounded size: counts by threshold, ROC with band, precision-recall, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MAX_LEVELS = 10_000
MAX_BAND_LEVELS = 2000
MAX_PATH_POINTS = 400
NUM_BINS = 48
NUM_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Number of images of each class that score at or below each of a list of thresholds.

    Attributes:
        thresholds: in ascending order, (L,).
        normal: number of normal images at or below each threshold, (L,).
        abnormal: number of abnormal images at or below each threshold, (L,).
        num_normal: number of all normal images.
        num_abnormal: number of all abnormal images.
        is_complete: whether every score is among the thresholds; then the counts at any other threshold follow.
    """

    thresholds: np.ndarray
    normal: np.ndarray
    abnormal: np.ndarray
    num_normal: int
    num_abnormal: int
    is_complete: bool

    @classmethod
    def of(
        cls, labels: Sequence[int], scores: ArrayLike, *, extra: Sequence[float] = (), most: int = MAX_LEVELS
    ) -> Levels:
        """Count the images.

        Args:
            labels: 0 normal, 1 abnormal, (N,).
            scores: of the images, (N,).
            extra: further thresholds.
            most: largest number of distinct scores that become thresholds; of more, evenly spaced ones are taken,
                always with the smallest and the largest.
        """
        truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
        distinct = np.unique(values)
        thinned = distinct[evenly(len(distinct), most=most)]
        thresholds = np.union1d(thinned, np.asarray(extra, dtype=np.float64))
        of_class = [np.sort(values[truth == label]) for label in (0, 1)]
        normal, abnormal = (np.searchsorted(values, thresholds, "right") for values in of_class)
        return cls(
            thresholds=thresholds,
            normal=normal,
            abnormal=abnormal,
            num_normal=len(of_class[0]),
            num_abnormal=len(of_class[1]),
            is_complete=len(thinned) == len(distinct),
        )

    @property
    def has_both_classes(self) -> bool:
        """True where both classes have images, so that curves are defined."""
        return self.num_normal > 0 and self.num_abnormal > 0


def evenly(num_places: int, *, most: int) -> np.ndarray:
    """Choose at most `most` evenly spaced indices of 0 to num_places - 1, with the first and the last."""
    return np.unique(np.linspace(0, num_places - 1, min(most, num_places)).round().astype(int))


def roc(levels: Levels) -> np.ndarray:
    """Compute false-positive and true-positive rate, from (0, 0) to (1, 1), (P, 2); needs both classes."""
    rates = np.stack([1 - levels.normal / levels.num_normal, 1 - levels.abnormal / levels.num_abnormal], axis=1)
    return np.concatenate([[[0.0, 0.0]], rates[::-1], [[1.0, 1.0]]])


def precision_recall(levels: Levels) -> np.ndarray:
    """Compute recall, ascending, and precision, (P, 2); needs both classes."""
    true = np.append(levels.num_abnormal - levels.abnormal[::-1], levels.num_abnormal)
    false = np.append(levels.num_normal - levels.normal[::-1], levels.num_normal)
    defined = true + false > 0
    path = np.stack([true[defined] / levels.num_abnormal, true[defined] / (true + false)[defined]], axis=1)
    return np.concatenate([[[0.0, path[0, 1]]], path])


def roc_band(
    labels: Sequence[int], scores: ArrayLike, *, seed: int, num_resamples: int = NUM_RESAMPLES, num_points: int = 101
) -> np.ndarray:
    """Compute the pointwise 95 % band of the ROC curve, by a bootstrap that is stratified by class.

    Args:
        labels: 0 normal, 1 abnormal, (N,), of both classes.
        scores: of the images, (N,); at most `MAX_BAND_LEVELS` distinct ones are told apart.
        seed: of the random draws.
        num_resamples: number of bootstrap samples.
        num_points: number of false-positive rates, evenly spaced from 0 to 1.

    Returns:
        False-positive rate, lower and upper end of the true-positive rate, (num_points, 3).
    """
    levels = Levels.of(labels, scores, most=MAX_BAND_LEVELS)
    generator = np.random.default_rng(seed)
    at_rates = np.linspace(0, 1, num_points)
    rates = np.empty((num_resamples, num_points))
    totals = (levels.num_normal, levels.normal), (levels.num_abnormal, levels.abnormal)
    shares = [np.diff(at_or_below, prepend=0) / total for total, at_or_below in totals]
    for i in range(num_resamples):
        false, true = (
            np.append(0.0, generator.multinomial(total, share)[::-1].cumsum() / total)
            for (total, _), share in zip(totals, shares, strict=True)
        )
        rates[i] = true[np.searchsorted(false, at_rates + 1e-12, "right") - 1]
    low, high = np.quantile(rates, [0.025, 0.975], axis=0)
    return np.stack([at_rates, low, high], axis=1)


def thin(path: np.ndarray, *, most: int = MAX_PATH_POINTS) -> np.ndarray:
    """Keep at most `most` points of a path, (P, 2), evenly spaced along it, with the first and the last."""
    if len(path) <= most:
        return path
    along = np.append(0.0, np.abs(np.diff(path, axis=0)).sum(axis=1).cumsum())
    index = np.searchsorted(along, np.linspace(0, along[-1], most)).clip(max=len(path) - 1)
    kept: np.ndarray = path[np.unique(index)]
    return kept


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Shares of scores in bins of equal width.

    Attributes:
        edges: edges of the bins, (NUM_BINS + 1,).
        shares: shares by name of the group of images, in [0, 1], (NUM_BINS,); a group without images is left out.
    """

    edges: np.ndarray
    shares: dict[str, np.ndarray]


def histogram(scores: dict[str, np.ndarray], *, must_show: float, num_bins: int = NUM_BINS) -> Histogram:
    """Compute the histograms of several groups of images in the same bins.

    Args:
        scores: by name of the group, (N,) each; at least one group has images.
        must_show: a threshold that the bins must include.
        num_bins: number of bins.
    """
    every = np.concatenate([*scores.values(), [must_show]])
    low, high = float(every.min()), float(every.max())
    margin = (high - low) * 0.02 or max(abs(low) * 0.01, 1e-6)  # equal scores need a scale, too
    edges = np.linspace(low - margin, high + margin, num_bins + 1)
    shares = {name: np.histogram(values, edges)[0] / len(values) for name, values in scores.items() if len(values)}
    return Histogram(edges=edges, shares=shares)
