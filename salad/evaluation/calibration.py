"""Scores in terms of validation normals: percentiles, and the threshold that so many of them stay below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from salad.errors import InputError

if TYPE_CHECKING:
    pass


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


@dataclass(frozen=True)
class Standards:
    """Mean and standard deviation of each part of a fused score over normal images that it is not trained on.

    Attributes:
        of: by name of the part.
    """

    of: dict[str, tuple[float, float]]

    @classmethod
    def measure(cls, parts: Mapping[str, np.ndarray]) -> Standards:
        """From the scores of validation normals, (N,) each; abnormal images must not be among them.

        Raises:
            InputError: there are fewer than two.
        """
        num_normals = min(map(len, parts.values()))
        if num_normals < 2:
            raise no_standards(num_normals)
        return cls({name: (float(one.mean()), max(float(one.std(ddof=1)), 1e-12)) for name, one in parts.items()})

    def fuse(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mean of the standardised parts, (N,)."""
        fused: np.ndarray = np.mean([(parts[name] - mean) / std for name, (mean, std) in self.of.items()], axis=0)
        return fused


def no_standards(num_normals: int) -> InputError:
    """There are too few normal images to standardise the parts of a fused score."""
    return InputError(
        f"--score fused standardises its parts by normal images that are held out, 2 at least, but there are "
        f"{num_normals}: put normal images into val/, train with --val_share 0.1 (a Detector with val_share=0.1), or "
        "take another --score"
    )


def combine(parts: Mapping[str, np.ndarray], standards: Standards | None) -> np.ndarray:
    """The score of images from its parts, (N,) each: fused, or the only one."""
    if standards is not None:
        return standards.fuse(parts)
    (only,) = parts.values()
    return only
