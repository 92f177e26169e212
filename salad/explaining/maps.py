"""Hold the maps of an image as values, and lay them over the image in colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from salad.explaining.heatmaps import lay_over, outline, overlay, soft_layer
from salad.explaining.places import Place, find_places

DEVIATIONS_RANGE = (1.0, 6.0)  # values at which colours begin and end, in standard deviations above the normal mean
RAW_RANGE = (0.1, 0.6)  # the range of error maps that are not standardised
DISTANCE_RANGE = (0.1, 0.6)  # the range of memory maps, in 1 - cosine


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """Map of where an image is unlike normal ones, of a score with a patch memory.

    Attributes:
        pixels: image in the frame in which it was scored, (S, S), uint8: uncropped if only the backbone scores it, else
            as the network sees it.
        values: anomaly of each pixel, (S, S), at least 0, in standard deviations above normal images (one scale for all
            pixels); 0 where the border of a registered image is repeated.
        threshold: value that the maps of a share `specificity` of normal images exceed nowhere, above 0.
        specificity: share of the normal images that set the threshold, in (0, 1].
        normals: normal images that set scale and threshold, ``validation`` or ``training``.
        film: image with the border that --crop cuts off, (S0, S0), uint8; the map lies in its middle.
    """

    pixels: np.ndarray
    values: np.ndarray
    threshold: float
    specificity: float
    normals: str
    film: np.ndarray

    @property
    def overlay(self) -> np.ndarray:
        """Map in colour over the image, (S, S, 3), uint8."""
        return lay_over(self.pixels, soft_layer(self.values, threshold=self.threshold))

    @property
    def contour(self) -> np.ndarray:
        """Line around what exceeds the threshold, True on its inner side, (S, S)."""
        return outline(self.values > self.threshold, width=1)

    @property
    def film_values(self) -> np.ndarray:
        """Values in the frame of the film, (S0, S0); 0 in the border that is not scored."""
        margin = (len(self.film) - len(self.values)) // 2
        return np.pad(self.values, margin)

    @property
    def film_overlay(self) -> np.ndarray:
        """Map in colour over the film, (S0, S0, 3), uint8."""
        return lay_over(self.film, self.film_layer(len(self.film)))

    def film_layer(self, side: int) -> np.ndarray:
        """Draw the map as a layer to lay over the film, see `soft_layer`: RGBA pixels, (side, side, 4), uint8."""
        return soft_layer(self.film_values, threshold=self.threshold, side=side)

    @property
    def places(self) -> tuple[Place, ...]:
        """Places of the largest values, largest first."""
        return find_places(self.film_values, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class ErrorMap:
    """Map of the error of the reconstruction.

    Attributes:
        pixels: image as the network sees it, (S, S), uint8.
        recon: its reconstruction, (S, S), uint8.
        values: smoothed absolute reconstruction error, (S, S), in [0, 2], or, with enough validation normals, in
            standard deviations above their mean at the same pixel (it can be negative).
        between: values at which the colours begin and end, the same for all images of a run.
    """

    pixels: np.ndarray
    recon: np.ndarray
    values: np.ndarray
    between: tuple[float, float] = RAW_RANGE

    @property
    def is_standardized(self) -> bool:
        """True where the values are standard deviations."""
        return self.between == DEVIATIONS_RANGE

    @property
    def overlay(self) -> np.ndarray:
        """Map in colour over the image, (S, S, 3), uint8."""
        return overlay(self.pixels, self.values, between=self.between)


@dataclass(frozen=True, kw_only=True)
class MemoryMap:
    """Map of the distance to the nearest normal images, of a score without a patch memory.

    Attributes:
        pixels: image as the network sees it, (S, S), uint8.
        values: 1 - cosine of the patch features to the nearest patch features of the neighbours at the same position,
            (S, S).
        between: values at which the colours begin and end, the same for all images of a run.
    """

    pixels: np.ndarray
    values: np.ndarray
    between: tuple[float, float] = DISTANCE_RANGE

    @property
    def overlay(self) -> np.ndarray:
        """Map in colour over the image, (S, S, 3), uint8."""
        return overlay(self.pixels, self.values, between=self.between)


HeatMap = ScoreMap | MemoryMap | ErrorMap
