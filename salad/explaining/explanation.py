"""Hold the explanation of a score as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salad.errors import printable
from salad.explaining.maps import ErrorMap, HeatMap, ScoreMap
from salad.explaining.places import describe
from salad.explaining.plot import as_html, plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A normal training image near an image.

    Attributes:
        name: name of its sample, or ``row 17`` where the training images are not available.
        pixels: pixels in the frame of the scored image, (S, S), uint8; None where the training images are not
            available.
        distance: of a score with a patch memory, the mean distance of the patch features to those of this neighbour
            alone, standardised as the score is; else the angle between its memory row and the embedding of the image,
            as a fraction of pi.
        is_angle: True where the distance is an angle.
    """

    name: str
    pixels: np.ndarray | None
    distance: float
    is_angle: bool = False


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanation of the score of an image.

    Attributes:
        pixels: image as the network sees it, (S, S), uint8.
        score: score of the image; larger is more anomalous.
        percentile: percentile of the score among normal validation images, in percent; None without these.
        parts: parts of the score by name: of a fused score each in standard deviations above normal images, whose mean
            is the score; else the score alone.
        maps: maps that the model has, the most informative first: ``score``, of a score with a patch memory (local,
            backbone, or fused with one of them); ``memory``, of other scores, where the training images are available;
            ``error``, where a loss has trained the network to reconstruct.
        neighbours: normal training images, nearest first by a score with a patch memory, else by the embedding; several
            views of an image count once. Empty where no loss has trained the embedding, or where the patch memory
            holds patches of different images in different grid cells.

    A notebook shows it as the plot above its sentence.
    """

    pixels: np.ndarray
    score: float
    percentile: float | None
    parts: Mapping[str, float]
    maps: Mapping[str, HeatMap]
    neighbours: tuple[Neighbour, ...]

    @property
    def score_map(self) -> ScoreMap | None:
        """Map of the score; None for a score without a patch memory."""
        found = self.maps.get("score")
        return found if isinstance(found, ScoreMap) else None

    @property
    def memory_map(self) -> np.ndarray | None:
        """Values of the memory map, (S, S); None without one."""
        return self.maps["memory"].values if "memory" in self.maps else None

    @property
    def error_map(self) -> np.ndarray | None:
        """Values of the error map, (S, S); None where no loss has trained the network to reconstruct."""
        return self.maps["error"].values if "error" in self.maps else None

    @property
    def recon(self) -> np.ndarray | None:
        """Reconstruction, (S, S), uint8; None where no loss has trained the network to reconstruct."""
        found = self.maps.get("error")
        return found.recon if isinstance(found, ErrorMap) else None

    @property
    def sentence(self) -> str:
        """Sentence about what drove the score; sides are those of the picture."""
        return self.sentence_in(None)

    def sentence_in(self, view: str | None) -> str:
        """Say what drove the score, with the sides of the patient in a frontal view (PA or AP)."""
        names = [printable(neighbour.name) for neighbour in self.neighbours]
        return describe(self.score_map, names, parts=self.parts, view=view)

    @property
    def scored_pixels(self) -> np.ndarray:
        """Image in the frame in which it was scored, (S, S), uint8."""
        return self.pixels if self.score_map is None else self.score_map.pixels

    def plot(self) -> Figure:
        """Plot the image, its maps and the nearest normal images, see `salad.explaining.plot.plot`."""
        return plot(self)

    def _repr_html_(self) -> str:
        """Compose what a notebook shows."""
        return as_html(self)
