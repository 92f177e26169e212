"""What scoring a split gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from salad.evaluation.calibration import Calibration
from salad.evaluation.metrics import Auc, auc
from salad.samples import NORMAL, Split

if TYPE_CHECKING:
    from salad.evaluation.calibration import Standards


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of a split, one an image.

    Attributes:
        split: the images.
        scores: larger is more anomalous, (N,).
        z: embeddings, (N, D); (N, 0) where they are not kept.
        image_mean: mean grey level of each image before any normalisation, in [0, 255], (N,).
        image_std: its standard deviation, (N,).
        image_sharpness: that of its Laplacian, (N,).
        seconds: from the first image to the last score.
        k: nearest rows behind each score; None where it has no such rows.
        calibration: scores of validation normals; None where there are none.
        parts: what each of the scores that were fused gave, (N,) each, by name; empty for other scores.
        standards: what these were standardised with.
    """

    split: Split
    scores: np.ndarray
    z: np.ndarray
    image_mean: np.ndarray
    image_std: np.ndarray
    image_sharpness: np.ndarray
    seconds: float
    k: int | None = None
    calibration: Calibration | None = None
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    standards: Standards | None = None

    @property
    def labels(self) -> list[int]:
        """0 normal, 1 abnormal, (N,)."""
        return self.split.labels

    @property
    def normal_scores(self) -> np.ndarray:
        """Scores of the normal images, (num_normal,)."""
        normal: np.ndarray = self.scores[np.asarray(self.labels) == NORMAL]
        return normal

    @cached_property
    def auc(self) -> Auc | None:
        """AUC of the scores; None where a class is missing."""
        return auc(self.labels, self.scores)

    @property
    def percentiles(self) -> np.ndarray | None:
        """Of each score among validation normals, in percent, (N,); None without these."""
        return self.calibration.percentile(self.scores) if self.calibration else None
