"""Measure images by their grey levels alone, without a model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class GreyLevels(NamedTuple):
    """Grey-level statistics of each image of a batch, (B,) each; grey levels lie in [0, 255].

    Attributes:
        mean: mean grey level.
        std: standard deviation of the grey levels.
        sharpness: standard deviation of the discrete Laplacian (sum of the four neighbours minus four times the
            pixel); 0 for images below 3 x 3.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    sharpness: NDArray[np.float64]


def measure_grey_levels(grey: NDArray[np.uint8]) -> GreyLevels:
    """Measure the grey levels of decoded images, (B, S, S), before any normalisation."""
    levels = grey.astype(np.float64)
    mean, std = levels.mean(axis=(1, 2)), levels.std(axis=(1, 2))
    if levels.shape[1] < 3:
        return GreyLevels(mean, std, np.zeros_like(mean))
    neighbours = levels[:, :-2, 1:-1] + levels[:, 2:, 1:-1] + levels[:, 1:-1, :-2] + levels[:, 1:-1, 2:]
    return GreyLevels(mean, std, (neighbours - 4 * levels[:, 1:-1, 1:-1]).std(axis=(1, 2)))
