"""What the grey levels of an image tell without any model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class GreyLevels(NamedTuple):
    """Of each image of a batch, (B,); grey levels are in [0, 255].

    Attributes:
        mean: their mean.
        std: their standard deviation.
        sharpness: that of the discrete Laplacian, the sum of the four neighbours less four times the pixel; 0 of an
            image below 3 x 3.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    sharpness: NDArray[np.float64]


def measure_grey_levels(grey: NDArray[np.uint8]) -> GreyLevels:
    """Measure images as decoded, (B, S, S), before any normalisation."""
    levels = grey.astype(np.float64)
    mean, std = levels.mean(axis=(1, 2)), levels.std(axis=(1, 2))
    if levels.shape[1] < 3:
        return GreyLevels(mean, std, np.zeros_like(mean))
    neighbours = levels[:, :-2, 1:-1] + levels[:, 2:, 1:-1] + levels[:, 1:-1, :-2] + levels[:, 1:-1, 2:]
    return GreyLevels(mean, std, (neighbours - 4 * levels[:, 1:-1, 1:-1]).std(axis=(1, 2)))
