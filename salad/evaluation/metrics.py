"""AUC, its intervals, and whether two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

NUM_RESAMPLES = 2000
NUM_STRATA = 5
BASELINES = ("image_mean", "image_std", "image_sharpness")  # what a model has to beat


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve.

    Attributes:
        value: in [0, 1]; the share of (normal, abnormal) pairs in which the abnormal one scores higher.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} (95 % CI {self.low:.4f} to {self.high:.4f})"

    def as_json(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def auc(labels: Sequence[int], scores: ArrayLike, *, confidence: float = 0.95) -> Auc | None:
    """AUC of raw scores with the interval of DeLong et al. (Biometrics 1988).

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (N,); only their order counts.
        confidence: of the interval, which is cut to [0, 1]; an AUC of 0 or 1 has an interval of width 0.

    Returns:
        None where one class is missing and no AUC is defined.
    """
    classes = _split(labels, scores)
    if classes is None:
        return None
    of_abnormal, of_normal = _components(*classes)
    variance = _variance(of_abnormal) + _variance(of_normal)
    return _with_interval(float(of_abnormal.mean()), variance, confidence=confidence)


def auc_within(
    labels: Sequence[int], scores: ArrayLike, *, strata_of: ArrayLike, num_strata: int = NUM_STRATA
) -> Auc | None:
    """AUC among images that are alike in something else: what a score tells beyond that.

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (N,).
        strata_of: what images of a stratum are alike in, (N,); the strata are its quantiles.
        num_strata: how many.

    Returns:
        The share of pairs from one stratum in which the abnormal image scores higher, with the interval that DeLong's
        variances give; None where no stratum has both classes.
    """
    truth, values, by = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(strata_of)
    stratum = np.searchsorted(np.quantile(by, np.arange(1, num_strata) / num_strata), by, side="right")
    places = [stratum == one for one in range(num_strata)]
    pairs = [_components(*classes) for at in places if (classes := _split(truth[at], values[at]))]
    if not pairs:
        return None
    weights = np.array([len(of_abnormal) * len(of_normal) for of_abnormal, of_normal in pairs], dtype=np.float64)
    weights /= weights.sum()
    area = float(weights @ [of_abnormal.mean() for of_abnormal, _ in pairs])
    return _with_interval(area, float(weights**2 @ [_variance(one) + _variance(two) for one, two in pairs]))


def bootstrap_auc(
    labels: Sequence[int], scores: ArrayLike, *, seed: int, num_resamples: int = NUM_RESAMPLES, confidence: float = 0.95
) -> Auc | None:
    """AUC with the percentile interval of a bootstrap that draws from each class by itself.

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (N,).
        seed: of the draws.
        num_resamples: how many.
        confidence: of the interval.

    Returns:
        None where one class is missing.
    """
    classes = _split(labels, scores)
    if classes is None:
        return None
    levels, rank = np.unique(np.concatenate(classes), return_inverse=True)
    normal, abnormal = np.split(rank, [len(classes[0])])
    generator = np.random.default_rng(seed)
    areas = np.empty(num_resamples)
    for i in range(num_resamples):
        counts = np.bincount(generator.choice(normal, len(normal)), minlength=len(levels))
        below = counts.cumsum() - counts / 2  # normal scores below each level; ties count half
        areas[i] = below[generator.choice(abnormal, len(abnormal))].mean() / len(normal)
    low, high = np.quantile(areas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Auc(float(_components(*classes)[0].mean()), float(low), float(high))


def mean_auc(labels: Sequence[int], scores: ArrayLike) -> Auc | None:
    """Mean AUC of several models on the same images, with its DeLong interval: that of these models on other images.

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (M, N).

    Returns:
        None where one class is missing.
    """
    components = _mean_components(labels, scores)
    if not components:
        return None
    return _with_interval(float(components[0].mean()), sum(map(_variance, components)))


def compare_aucs(labels: Sequence[int], first: ArrayLike, second: ArrayLike) -> float | None:
    """Two-sided p-value that two scores of the same images have the same AUC (DeLong et al., Biometrics 1988).

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        first: scores of the N images, (N,), or of several models, (M, N), whose mean AUC counts.
        second: other scores of the same images, in the same order.

    Returns:
        1 where the two do not differ at all; None where a class has fewer than two images.
    """
    if min(np.bincount(np.asarray(labels), minlength=2)) < 2:
        return None
    differences = [
        a - b for a, b in zip(_mean_components(labels, first), _mean_components(labels, second), strict=True)
    ]
    variance = sum(map(_variance, differences))
    distance = abs(float(differences[0].mean()))
    if distance < 1e-12:
        return 1.0
    return 2 * NormalDist().cdf(-distance / variance**0.5) if variance > 0 else 0.0


def average_precision(labels: Sequence[int], scores: ArrayLike) -> float | None:
    """Area under the precision-recall curve, by steps; by chance it is the share of abnormal images.

    Returns:
        In [0, 1]; None where one class is missing.
    """
    from sklearn.metrics import average_precision_score  # here, because it takes longer to import than a run to start

    if _split(labels, scores) is None:
        return None
    return float(average_precision_score(np.asarray(labels), np.asarray(scores, dtype=np.float64)))


def _with_interval(area: float, variance: float, *, confidence: float = 0.95) -> Auc:
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * variance**0.5
    return Auc(area, max(0.0, area - reach), min(1.0, area + reach))


def _split(labels: Sequence[int], scores: ArrayLike) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores of normal and of abnormal images; None where one class is missing."""
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    normal, abnormal = values[truth == 0], values[truth == 1]
    return (normal, abnormal) if len(normal) and len(abnormal) else None


def _components(normal: np.ndarray, abnormal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Structural components: for each abnormal, then each normal image, the share it is ordered rightly against."""
    return _shares_below(normal, abnormal), 1 - _shares_below(abnormal, normal)


def _mean_components(labels: Sequence[int], scores: ArrayLike) -> list[np.ndarray]:
    found = [_components(*classes) for one in np.atleast_2d(scores) if (classes := _split(labels, one))]
    return [np.mean(of_class, axis=0) for of_class in zip(*found, strict=True)]


def _variance(component: np.ndarray) -> float:
    """Of its mean; of a single image the largest that is possible."""
    return float(np.var(component, ddof=1)) / len(component) if len(component) > 1 else 0.25


def _shares_below(values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Of each query, the share of values below it; ties count half."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, queries, "left") + np.searchsorted(ordered, queries, "right")) / (2 * len(values))
