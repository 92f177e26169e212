"""What the plots draw, of bounded size: counts at every threshold, ROC with its band, precision-recall, histograms."""

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
    """How many images of each class score at or below each of some thresholds.

    Attributes:
        thresholds: rising, (L,).
        normal: normal images at or below each, (L,).
        abnormal: abnormal ones, (L,).
        num_normal: of all images.
        num_abnormal: of all images.
        is_complete: whether every score is among the thresholds, so that the counts tell those at any threshold.
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
            scores: of each, (N,).
            extra: thresholds that are wanted besides.
            most: of the distinct scores, as many are taken, evenly among them, always with the first and the last.
        """
        truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
        distinct = np.unique(values)
        thinned = distinct[evenly(len(distinct), most=most)]
        thresholds = np.union1d(thinned, np.asarray(extra, dtype=np.float64))
        of_class = [np.sort(values[truth == label]) for label in (0, 1)]
        normal, abnormal = (np.searchsorted(one, thresholds, "right") for one in of_class)
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
        """Whether there are curves."""
        return self.num_normal > 0 and self.num_abnormal > 0


def evenly(num_places: int, *, most: int) -> np.ndarray:
    """Places 0 to num_places - 1, or as many of them, with the first and the last."""
    return np.unique(np.linspace(0, num_places - 1, min(most, num_places)).round().astype(int))


def roc(levels: Levels) -> np.ndarray:
    """False-positive and true-positive rate, from (0, 0) to (1, 1), (P, 2); the classes must both be there."""
    rates = np.stack([1 - levels.normal / levels.num_normal, 1 - levels.abnormal / levels.num_abnormal], axis=1)
    return np.concatenate([[[0.0, 0.0]], rates[::-1], [[1.0, 1.0]]])


def precision_recall(levels: Levels) -> np.ndarray:
    """Recall, rising, and precision, (P, 2); the classes must both be there."""
    true = np.append(levels.num_abnormal - levels.abnormal[::-1], levels.num_abnormal)
    false = np.append(levels.num_normal - levels.normal[::-1], levels.num_normal)
    some = true + false > 0
    path = np.stack([true[some] / levels.num_abnormal, true[some] / (true + false)[some]], axis=1)
    return np.concatenate([[[0.0, path[0, 1]]], path])


def roc_band(
    labels: Sequence[int], scores: ArrayLike, *, seed: int, num_resamples: int = NUM_RESAMPLES, num_points: int = 101
) -> np.ndarray:
    """The pointwise 95 % band of the ROC, by a bootstrap that draws from each class by itself.

    Args:
        labels: 0 normal, 1 abnormal, (N,), both of them.
        scores: of each, (N,); of more than `MAX_BAND_LEVELS` distinct ones as many are told apart.
        seed: of the draws.
        num_resamples: how many.
        num_points: false-positive rates, evenly from 0 to 1.

    Returns:
        False-positive rate, lower and upper end of the true-positive rate, (num_points, 3).
    """
    levels = Levels.of(labels, scores, most=MAX_BAND_LEVELS)
    generator = np.random.default_rng(seed)
    at_rates = np.linspace(0, 1, num_points)
    found = np.empty((num_resamples, num_points))
    totals = (levels.num_normal, levels.normal), (levels.num_abnormal, levels.abnormal)
    shares = [np.diff(at_or_below, prepend=0) / total for total, at_or_below in totals]
    for i in range(num_resamples):
        false, true = (
            np.append(0.0, generator.multinomial(total, share)[::-1].cumsum() / total)
            for (total, _), share in zip(totals, shares, strict=True)
        )
        found[i] = true[np.searchsorted(false, at_rates + 1e-12, "right") - 1]
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return np.stack([at_rates, low, high], axis=1)


def thin(path: np.ndarray, *, most: int = MAX_PATH_POINTS) -> np.ndarray:
    """As many points of a path (P, 2), evenly along it, with its first and its last."""
    if len(path) <= most:
        return path
    along = np.append(0.0, np.abs(np.diff(path, axis=0)).sum(axis=1).cumsum())
    places = np.searchsorted(along, np.linspace(0, along[-1], most)).clip(max=len(path) - 1)
    kept: np.ndarray = path[np.unique(places)]
    return kept


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Shares of scores in bins of equal width.

    Attributes:
        edges: of the bins, (NUM_BINS + 1,).
        shares: by the name of the images, in [0, 1], (NUM_BINS,); a name without images has none.
    """

    edges: np.ndarray
    shares: dict[str, np.ndarray]


def histogram(scores: dict[str, np.ndarray], *, must_show: float, num_bins: int = NUM_BINS) -> Histogram:
    """Shares of each kind of images, all in the same bins.

    Args:
        scores: by the name of the images, (N,) each, some of them not empty.
        must_show: a threshold that the bins have to reach.
        num_bins: how many.
    """
    every = np.concatenate([*scores.values(), [must_show]])
    low, high = float(every.min()), float(every.max())
    margin = (high - low) * 0.02 or max(abs(low) * 0.01, 1e-6)  # all scores alike: still a scale
    edges = np.linspace(low - margin, high + margin, num_bins + 1)
    counts = {name: np.histogram(one, edges)[0] / len(one) for name, one in scores.items() if len(one)}
    return Histogram(edges=edges, shares=counts)
