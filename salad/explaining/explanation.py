"""What the model sees in an image, as values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from salad.explaining.heatmaps import overlay

DEVIATIONS_RANGE = (1.0, 6.0)  # where colours begin and end, in standard deviations above the mean of normals
RAW_RANGE = (0.1, 0.6)  # the same of errors where these are not known
DISTANCE_RANGE = (0.1, 0.6)  # and of one minus a cosine


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A normal training image near an image.

    Attributes:
        name: of its sample, or ``row 17`` where the images are not at hand.
        pixels: as it was seen, (S, S), uint8; None where the images are not at hand.
        angle: between its memory row and the image's embedding, as a fraction of pi; None for local scores.
        distance: for local scores, the score that the image would have if this one were the only normal image.
    """

    name: str
    pixels: np.ndarray | None
    angle: float | None = None
    distance: float | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """Where a local score finds an image unlike normal ones.

    Attributes:
        pixels: the image in the frame in which it was scored, (S, S), uint8: for the score of a backbone alone with
            nothing cut off, else as the network sees it.
        values: distance to the nearest normal image at the same place, in standard deviations above the mean of normal
            images there (it may be negative), (S, S), bilinear between the places; of a fused score, the mean of its
            local parts.
        normals: the normal images that this scale is of: ``validation`` or ``training``.
    """

    pixels: np.ndarray
    values: np.ndarray
    normals: str
    between = DEVIATIONS_RANGE

    @property
    def overlay(self) -> np.ndarray:
        """The map over the image, (S, S, 3), uint8."""
        return overlay(self.pixels, self.values, between=self.between)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the model sees in an image.

    Attributes:
        pixels: the image as the network sees it, (S, S), uint8.
        recon: its reconstruction, (S, S), uint8; None where no loss has trained the network to reconstruct.
        error_map: smoothed absolute reconstruction error, (S, S); in standard deviations above the mean of validation
            normals at the same place where these are known (it may be negative), else in [0, 2]; None with `recon`.
        score_map: of the scores local, backbone and fused; None for others.
        memory_map: for other scores, one minus the cosine of local features to the nearest of those that the
            neighbours have at the same place, (S, S); None where the training images are not at hand, or where there
            are no neighbours.
        neighbours: normal training images, nearest first by the score local, backbone or fused, else by the embedding;
            several views of one count once. Empty where no loss has trained the embedding, or where there were more
            images than a local memory holds.
        error_range: values of the error map at which its colours begin and end; the same for all images of a run.
        memory_range: the same of the memory map.
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
        """The image in the frame in which it was scored, (S, S), uint8."""
        return self.pixels if self.score_map is None else self.score_map.pixels

    @property
    def is_standardized(self) -> bool:
        """Whether the error map is in standard deviations."""
        return self.error_range == DEVIATIONS_RANGE

    @property
    def error_overlay(self) -> np.ndarray | None:
        """The error map over the image, (S, S, 3), uint8; None without one."""
        return None if self.error_map is None else overlay(self.pixels, self.error_map, between=self.error_range)

    @property
    def memory_overlay(self) -> np.ndarray | None:
        """The memory map over the image, (S, S, 3), uint8; None without one."""
        return None if self.memory_map is None else overlay(self.pixels, self.memory_map, between=self.memory_range)
