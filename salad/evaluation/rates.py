"""Sensitivity, specificity and the like, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from salad.evaluation.calibration import Calibration


@dataclass(frozen=True)
class Rate:
    """A share of images, with the interval of Wilson (JASA 1927).

    Attributes:
        count: how many.
        of: out of how many, at least 1.
    """

    count: int
    of: int

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of the 95 % interval."""
        from scipy.stats import binomtest  # here, because it takes a second to import

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
    """What a threshold makes of the images: those that score above it count as abnormal.

    Attributes:
        true_negatives: normal, and called so.
        false_positives: normal, called abnormal.
        false_negatives: abnormal, called normal.
        true_positives: abnormal, and called so.
    """

    true_negatives: int
    false_positives: int
    false_negatives: int
    true_positives: int

    @classmethod
    def at(cls, threshold: float, labels: Sequence[int], scores: ArrayLike) -> Confusion:
        """Count the images, labels (N,) and scores (N,), by class and by side of the threshold."""
        truth, above = np.asarray(labels) == 1, np.asarray(scores, dtype=np.float64) > threshold
        return cls(*(int((truth == is_abnormal)[above == is_above].sum()) for is_abnormal, is_above in CELLS))

    @property
    def sensitivity(self) -> Rate | None:
        """Share of the abnormal images that are called so; None without any."""
        of = self.true_positives + self.false_negatives
        return Rate(self.true_positives, of) if of else None

    @property
    def specificity(self) -> Rate | None:
        """Share of the normal images that are called so; None without any."""
        of = self.true_negatives + self.false_positives
        return Rate(self.true_negatives, of) if of else None

    @property
    def precision(self) -> Rate | None:
        """Share of the images called abnormal that are; None where none is called so."""
        of = self.true_positives + self.false_positives
        return Rate(self.true_positives, of) if of else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and sensitivity; None without abnormal images, called so or not."""
        of = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / of if of else None

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of sensitivity and specificity; None where a class is missing."""
        rates = self.sensitivity, self.specificity
        return sum(rate.value for rate in rates if rate) / 2 if all(rates) else None


CELLS = ((False, False), (False, True), (True, False), (True, True))  # (is abnormal, is above), as `Confusion` has them


def sensitivity_at(specificity: float, labels: Sequence[int], scores: ArrayLike) -> Rate | None:
    """Sensitivity at the threshold that this share of the normal images themselves stays at or below.

    A point of the ROC curve: its threshold is read off these images, and the interval takes it as given.

    Returns:
        None where one class is missing.
    """
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    normal, abnormal = values[truth == 0], values[truth == 1]
    if not len(normal) or not len(abnormal):
        return None
    threshold = Calibration.of(normal).threshold(specificity)
    return Rate(int((abnormal > threshold).sum()), len(abnormal))


def specificity_at(sensitivity: float, labels: Sequence[int], scores: ArrayLike) -> Rate | None:
    """Specificity at the threshold that this share of the abnormal images themselves reaches; as `sensitivity_at`."""
    swapped = 1 - np.asarray(labels)
    return sensitivity_at(sensitivity, swapped.tolist(), -np.asarray(scores, dtype=np.float64))
