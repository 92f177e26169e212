"""Compute sensitivity, specificity and other rates at a threshold, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from salad.evaluation.calibration import Calibration


@dataclass(frozen=True)
class Rate:
    """Share of images, with the interval of Wilson (JASA 1927).

    Attributes:
        count: number of images counted, the numerator.
        of: number of all images, the denominator, at least 1.
    """

    count: int
    of: int

    @property
    def value(self) -> float:
        """Rate, in [0, 1]."""
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the 95 % interval."""
        from scipy.stats import binomtest  # imported here, because the import takes a second

        low, high = binomtest(self.count, self.of).proportion_ci(0.95, method="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.4f} (95 % CI {low:.4f} to {high:.4f}; {self.count} of {self.of})"

    def as_json(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "count": self.count, "of": self.of}


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix at a threshold: images that score above it are predicted abnormal.

    Attributes:
        true_negatives: number of normal images that are predicted normal.
        false_positives: number of normal images that are predicted abnormal.
        false_negatives: number of abnormal images that are predicted normal.
        true_positives: number of abnormal images that are predicted abnormal.
    """

    true_negatives: int
    false_positives: int
    false_negatives: int
    true_positives: int

    @classmethod
    def at(cls, threshold: float, labels: Sequence[int], scores: ArrayLike) -> Confusion:
        """Count images, with labels (N,) and scores (N,), by class and by prediction."""
        truth, above = np.asarray(labels) == 1, np.asarray(scores, dtype=np.float64) > threshold
        return cls(*(int((truth == is_abnormal)[above == is_above].sum()) for is_abnormal, is_above in CELLS))

    @property
    def sensitivity(self) -> Rate | None:
        """Share of the abnormal images that are predicted abnormal; None without abnormal images."""
        of = self.true_positives + self.false_negatives
        return Rate(self.true_positives, of) if of else None

    @property
    def specificity(self) -> Rate | None:
        """Share of the normal images that are predicted normal; None without normal images."""
        of = self.true_negatives + self.false_positives
        return Rate(self.true_negatives, of) if of else None

    @property
    def precision(self) -> Rate | None:
        """Share of the images predicted abnormal that are abnormal; None where no image is predicted abnormal."""
        of = self.true_positives + self.false_positives
        return Rate(self.true_positives, of) if of else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and sensitivity; None where no image is abnormal or predicted abnormal."""
        of = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / of if of else None

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of sensitivity and specificity; None where a class is missing."""
        rates = self.sensitivity, self.specificity
        return sum(rate.value for rate in rates if rate) / 2 if all(rates) else None


CELLS = ((False, False), (False, True), (True, False), (True, True))  # (is abnormal, is above), fields of `Confusion`


def sensitivity_at(specificity: float, labels: Sequence[int], scores: ArrayLike) -> Rate | None:
    """Compute the sensitivity at a point of the ROC curve.

    The threshold comes from the same images; the interval of the rate does not account for that choice.

    Args:
        specificity: share of the normal images that score at or below the threshold, in (0, 1].
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (N,).

    Returns:
        The sensitivity; None where a class is missing.
    """
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    normal, abnormal = values[truth == 0], values[truth == 1]
    if not len(normal) or not len(abnormal):
        return None
    threshold = Calibration.of(normal).threshold(specificity)
    return Rate(int((abnormal > threshold).sum()), len(abnormal))


def specificity_at(sensitivity: float, labels: Sequence[int], scores: ArrayLike) -> Rate | None:
    """Compute the specificity at the point of the ROC curve with this sensitivity, like `sensitivity_at`."""
    swapped = 1 - np.asarray(labels)
    return sensitivity_at(sensitivity, swapped.tolist(), -np.asarray(scores, dtype=np.float64))
