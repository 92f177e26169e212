"""Hold the result of scoring a split."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from salad.evaluation.calibration import Calibration
from salad.evaluation.films import measure_framing, measure_levels
from salad.evaluation.metrics import Auc, auc
from salad.images.grey_levels import GreyLevels
from salad.samples import NORMAL, Split

if TYPE_CHECKING:
    from salad.evaluation.calibration import Standards
    from salad.evaluation.drift import Drift


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of a split, one score for each image.

    Attributes:
        split: the scored images.
        scores: larger is more anomalous, (N,).
        z: embeddings, (N, D); (N, 0) where they are not kept.
        image_mean: mean grey level of each image before normalisation, in [0, 255], (N,).
        image_std: standard deviation of its grey levels, (N,).
        image_sharpness: standard deviation of its Laplacian, (N,).
        seconds: time from the first image to the last score.
        k: number of nearest rows behind each score; None for scores that use no rows.
        calibration: scores of validation normals; None without validation normals.
        parts: scores of each part of a fused score by name, (N,) each; empty for other scores.
        standards: mean and standard deviation that standardise each part; None for scores that are not fused.
        warnings: reasons to doubt the scores or the numbers made of them, one line each.
        params: registration of each image, (N, 4), see `register`; None without.
        drift: comparison of the normal images, or of all if none is normal, with those of the calibration; None where
            they were not compared.
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
    warnings: tuple[str, ...] = ()
    params: np.ndarray | None = None
    drift: Drift | None = None

    @property
    def labels(self) -> list[int]:
        """Labels, 0 normal, 1 abnormal, (N,)."""
        return self.split.labels

    @property
    def normal_scores(self) -> np.ndarray:
        """Scores of the normal images, (num_normal,)."""
        normal: np.ndarray = self.scores[np.asarray(self.labels) == NORMAL]
        return normal

    def films(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Collect grey levels and framing of the images with these indices, by names of `MEASUREMENTS`."""
        levels = GreyLevels(self.image_mean[chosen], self.image_std[chosen], self.image_sharpness[chosen])
        framing = measure_framing(None if self.params is None else self.params[chosen])
        return {**measure_levels(levels), **framing}

    @cached_property
    def auc(self) -> Auc | None:
        """AUC of the scores with its DeLong interval; None where a class is missing."""
        return auc(self.labels, self.scores)

    @property
    def percentiles(self) -> np.ndarray | None:
        """Percentile of each score among the validation normals, (N,); None without validation normals."""
        return self.calibration.percentile(self.scores) if self.calibration else None
