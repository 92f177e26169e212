"""Hold the explanation of a score as values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from salad.explaining.heatmaps import overlay

DEVIATIONS_RANGE = (1.0, 6.0)  # values at which colours begin and end, in standard deviations above the normal mean
RAW_RANGE = (0.1, 0.6)  # the range of error maps that are not standardised
DISTANCE_RANGE = (0.1, 0.6)  # the range of memory maps, in 1 - cosine


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A normal training image near an image.

    Attributes:
        name: name of its sample, or ``row 17`` where the training images are not available.
        pixels: pixels in the frame of the scored image, (S, S), uint8; None where the training images are not
            available.
        angle: angle between its memory row and the embedding of the image, as a fraction of pi; None for scores with a
            patch memory.
        distance: mean distance of the patch features to those of this neighbour alone, standardised as the score is;
            None for scores without a patch memory.
    """

    name: str
    pixels: np.ndarray | None
    angle: float | None = None
    distance: float | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """Heatmap of a score with a patch memory.

    Attributes:
        pixels: image in the frame in which it was scored, (S, S), uint8: uncropped if only the backbone scores it, else
            as the network sees it.
        values: distance of each grid cell to the nearest normal image, in standard deviations above the mean of normal
            images in the same cell (it can be negative), interpolated bilinearly to (S, S); for a fused score, the mean
            over its parts with a patch memory.
        normals: normal images that set the scale, ``validation`` or ``training``.
        between: values at which colours begin and end, the same for all images.
    """

    pixels: np.ndarray
    values: np.ndarray
    normals: str
    between = DEVIATIONS_RANGE

    @property
    def overlay(self) -> np.ndarray:
        """Map in colour over the image, (S, S, 3), uint8."""
        return overlay(self.pixels, self.values, between=self.between)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanation of the score of an image.

    Attributes:
        pixels: image as the network sees it, (S, S), uint8.
        recon: reconstruction, (S, S), uint8; None where no loss has trained the network to reconstruct.
        error_map: smoothed absolute reconstruction error, (S, S), in [0, 2], or, with enough validation normals, in
            standard deviations above their mean at the same pixel (it can be negative); None where `recon` is None.
        score_map: map of a score with a patch memory (local, backbone, or fused with one of them); None for others.
        memory_map: for scores without a patch memory, 1 - cosine of the patch features to the nearest patch features
            of the neighbours at the same position, (S, S); None where the training images are not available or there
            are no neighbours.
        neighbours: normal training images, nearest first by a score with a patch memory, else by the embedding; several
            views of an image count once. Empty where no loss has trained the embedding, or where the patch memory
            holds patches of different images in different grid cells.
        error_range: values of the error map at which its colours begin and end, the same for all images of a run.
        memory_range: values of the memory map at which its colours begin and end, the same for all images of a run.
    """

    pixels: np.ndarray
    recon: np.ndarray | None
    error_map: np.ndarray | None
    score_map: ScoreMap | None = None
    memory_map: np.ndarray | None
    neighbours: tuple[Neighbour, ...]
    error_range: tuple[float, float] = RAW_RANGE
    memory_range: tuple[float, float] = DISTANCE_RANGE

    @property
    def scored_pixels(self) -> np.ndarray:
        """Image in the frame in which it was scored, (S, S), uint8."""
        return self.pixels if self.score_map is None else self.score_map.pixels

    @property
    def is_standardized(self) -> bool:
        """True where the error map is in standard deviations."""
        return self.error_range == DEVIATIONS_RANGE

    @property
    def error_overlay(self) -> np.ndarray | None:
        """Error map in colour over the image, (S, S, 3), uint8; None without an error map."""
        return None if self.error_map is None else overlay(self.pixels, self.error_map, between=self.error_range)

    @property
    def memory_overlay(self) -> np.ndarray | None:
        """Memory map in colour over the image, (S, S, 3), uint8; None without a memory map."""
        return None if self.memory_map is None else overlay(self.pixels, self.memory_map, between=self.memory_range)
