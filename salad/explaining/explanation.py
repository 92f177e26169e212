"""Hold the explanation of a score as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salad.explaining.heatmaps import lay_over, outline, overlay, soft_layer
from salad.explaining.places import Place, describe, find_places
from salad.explaining.plot import as_html, plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        score: score of the image; None where the maps are made without one.
        percentile: percentile of the score among normal validation images, in percent; None without these.

    A notebook shows it as the plot above its sentence.
    """

    pixels: np.ndarray
    recon: np.ndarray | None
    error_map: np.ndarray | None
    score_map: ScoreMap | None = None
    memory_map: np.ndarray | None
    neighbours: tuple[Neighbour, ...]
    error_range: tuple[float, float] = RAW_RANGE
    memory_range: tuple[float, float] = DISTANCE_RANGE
    score: float | None = None
    percentile: float | None = None

    @property
    def sentence(self) -> str:
        """Sentence about what drove the score; sides are those of the picture. See `describe`."""
        return describe(self.score_map, [neighbour.name for neighbour in self.neighbours])

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

    def plot(self) -> Figure:
        """Plot the image, its maps and the nearest normal images, see `salad.explaining.plot.plot`."""
        return plot(self)

    def _repr_html_(self) -> str:
        """Compose what a notebook shows."""
        return as_html(self)
