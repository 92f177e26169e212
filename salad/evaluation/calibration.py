"""Scores in terms of validation normals: percentiles, and the threshold that so many of them stay below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from salad.errors import InputError


@dataclass(frozen=True)
class Calibration:
    """The scores of normal images that the model has not been trained on; abnormal ones never take part.

    Attributes:
        scores: finite, in rising order, (N,), N at least 1.
    """

    scores: np.ndarray

    @classmethod
    def of(cls, scores: ArrayLike) -> Calibration:
        """From the scores in any order.

        Raises:
            InputError: there are none, or one is not finite.
        """
        values = np.sort(np.asarray(scores, dtype=np.float64).ravel())
        if not len(values) or not np.isfinite(values).all():
            raise InputError("a calibration needs the scores of normal images, all finite")
        return cls(values)

    def percentile(self, scores: ArrayLike) -> np.ndarray:
        """Of each score, the share of validation normals below it, in percent; ties count half."""
        values = np.asarray(scores, dtype=np.float64)
        below = np.searchsorted(self.scores, values, "left") + np.searchsorted(self.scores, values, "right")
        return below * (50 / len(self.scores))

    def threshold(self, specificity: float) -> float:
        """The smallest of its scores that at least this share of validation normals does not exceed.

        A new image counts as abnormal where its score is larger.

        Args:
            specificity: wanted among the validation normals, in (0, 1].
        """
        rank = int(np.ceil(round(specificity * len(self.scores), 9)))
        return float(self.scores[max(rank, 1) - 1])
