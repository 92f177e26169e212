"""Compute AUCs, their intervals, tests of the difference of two AUCs, and average precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

NUM_RESAMPLES = 2000
NUM_STRATA = 5
BASELINES = ("image_mean", "image_std", "image_sharpness")  # scores without a model, attributes of `Result`


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve.

    Attributes:
        value: share of (normal, abnormal) pairs in which the abnormal image scores higher, in [0, 1]; ties count half.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
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
    """Compute the AUC of raw scores with the interval of DeLong et al. (Biometrics 1988).

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (N,); only their order counts.
        confidence: coverage of the interval, in (0, 1). The interval is clipped to [0, 1]; for an AUC of 0 or 1 its
            width is 0.

    Returns:
        The AUC; None where a class is missing.
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
    """Compute the AUC within strata of another variable: the pairs are images that are alike in that variable.

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (N,).
        strata_of: the other variable, (N,); its quantiles separate the strata.
        num_strata: number of strata.

    Returns:
        The share of (normal, abnormal) pairs of the same stratum in which the abnormal image scores higher, with an
        interval from DeLong's variances; None where no stratum has both classes.
    """
    truth, values, by = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(strata_of)
    stratum = np.searchsorted(np.quantile(by, np.arange(1, num_strata) / num_strata), by, side="right")
    members = [stratum == index for index in range(num_strata)]
    components = [_components(*classes) for mask in members if (classes := _split(truth[mask], values[mask]))]
    if not components:
        return None
    num_pairs = np.array([len(of_abnormal) * len(of_normal) for of_abnormal, of_normal in components], dtype=np.float64)
    weights = num_pairs / num_pairs.sum()
    area = float(weights @ [of_abnormal.mean() for of_abnormal, _ in components])
    variances = [_variance(of_abnormal) + _variance(of_normal) for of_abnormal, of_normal in components]
    return _with_interval(area, float(weights**2 @ variances))


def bootstrap_auc(
    labels: Sequence[int], scores: ArrayLike, *, seed: int, num_resamples: int = NUM_RESAMPLES, confidence: float = 0.95
) -> Auc | None:
    """Compute the AUC with the percentile interval of a bootstrap that is stratified by class.

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (N,).
        seed: of the random draws.
        num_resamples: number of bootstrap samples.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The AUC; None where a class is missing.
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
    """Compute the mean AUC of several models on the same images, with its DeLong interval.

    The interval covers the choice of the images, not the choice of the models.

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (M, N).

    Returns:
        The mean AUC; None where a class is missing.
    """
    return mean_auc_of_folds([(labels, scores)])


def mean_auc_of_folds(folds: Sequence[tuple[Sequence[int], ArrayLike]]) -> Auc | None:
    """Compute the mean over folds of the mean AUC of each fold's models, with an interval from DeLong's variances.

    Scores of different models are on different scales, so images are compared within their fold only. K folds are
    independent samples of images, so their mean A = (A_1 + ... + A_K) / K has the variance (V_1 + ... + V_K) / K**2,
    with DeLong's variance V_f of the mean AUC A_f of the models of fold f. The interval is A +- 1.96 standard
    deviations, clipped to [0, 1]. It is that of these models on other images: it leaves out that another training would
    give other models, and that the models of different folds have training images in common.

    Args:
        folds: for each fold its labels, 0 normal, 1 abnormal, (N_f,), and scores of its models, (M_f, N_f).

    Returns:
        The mean AUC; None where a fold lacks a class.
    """
    components = [_mean_components(labels, scores) for labels, scores in folds]
    if not components or not all(components):
        return None
    return _with_interval(*_mean_of_folds(components))


def compare_aucs(labels: Sequence[int], first: ArrayLike, second: ArrayLike) -> float | None:
    """Test whether two scores of the same images have the same AUC (DeLong et al., Biometrics 1988).

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        first: scores of one model, (N,), or of several models, (M, N); then the mean AUC is tested.
        second: other scores of the same images in the same order, (N,) or (M, N).

    Returns:
        The two-sided p-value, 1 for equal AUCs; None where a class has fewer than two images.
    """
    return compare_aucs_of_folds([(labels, first, second)])


def compare_aucs_of_folds(folds: Sequence[tuple[Sequence[int], ArrayLike, ArrayLike]]) -> float | None:
    """Test whether two methods have the same mean AUC over folds, by DeLong's test within each fold.

    The difference of K independent folds is D = (D_1 + ... + D_K) / K; its variance is (W_1 + ... + W_K) / K**2, with
    DeLong's variance W_f of the paired difference D_f on the images of fold f; and z = D / sqrt(variance).

    Args:
        folds: for each fold its labels, (N_f,), and the scores of each method, see `compare_aucs`.

    Returns:
        The two-sided p-value, 1 for equal AUCs; None where a class of a fold has fewer than two images.
    """
    if any(min(np.bincount(np.asarray(labels), minlength=2)) < 2 for labels, *_ in folds):
        return None
    pairs = [(_mean_components(labels, first), _mean_components(labels, second)) for labels, first, second in folds]
    difference, variance = _mean_of_folds([[a - b for a, b in zip(*pair, strict=True)] for pair in pairs])
    if abs(difference) < 1e-12:
        return 1.0
    return 2 * NormalDist().cdf(-abs(difference) / variance**0.5) if variance > 0 else 0.0


def average_precision(labels: Sequence[int], scores: ArrayLike) -> float | None:
    """Compute the average precision, a step-wise area under the precision-recall curve.

    Returns:
        A value in [0, 1], for random scores about the share of abnormal images; None where a class is missing.
    """
    from sklearn.metrics import average_precision_score  # imported here: it would double the time a run takes to start

    if _split(labels, scores) is None:
        return None
    return float(average_precision_score(np.asarray(labels), np.asarray(scores, dtype=np.float64)))


def _with_interval(area: float, variance: float, *, confidence: float = 0.95) -> Auc:
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * variance**0.5
    return Auc(area, max(0.0, area - reach), min(1.0, area + reach))


def _split(labels: Sequence[int], scores: ArrayLike) -> tuple[np.ndarray, np.ndarray] | None:
    """Split scores into those of normal and of abnormal images; None where a class is missing."""
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    normal, abnormal = values[truth == 0], values[truth == 1]
    return (normal, abnormal) if len(normal) and len(abnormal) else None


def _components(normal: np.ndarray, abnormal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute DeLong's structural components of the abnormal and of the normal images.

    The component of an image is the share of images of the other class that are ordered correctly against it.
    """
    return _shares_below(normal, abnormal), 1 - _shares_below(abnormal, normal)


def _mean_components(labels: Sequence[int], scores: ArrayLike) -> list[np.ndarray]:
    of_models = [_components(*classes) for row in np.atleast_2d(scores) if (classes := _split(labels, row))]
    return [np.mean(of_class, axis=0) for of_class in zip(*of_models, strict=True)]


def _mean_of_folds(components: Sequence[list[np.ndarray]]) -> tuple[float, float]:
    """Compute the mean over folds, and its variance, of what each fold has components of."""
    means = [float(of_abnormal.mean()) for of_abnormal, _ in components]
    variances = [sum(map(_variance, of_fold)) for of_fold in components]
    return float(np.mean(means)), sum(variances) / len(components) ** 2


def _variance(component: np.ndarray) -> float:
    """Compute the variance of the mean of a component; for a single image, the largest possible variance."""
    return float(np.var(component, ddof=1)) / len(component) if len(component) > 1 else 0.25


def _shares_below(values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Compute the share of values below each query; ties count half."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, queries, "left") + np.searchsorted(ordered, queries, "right")) / (2 * len(values))
