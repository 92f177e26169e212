"""Measure localisation: pixel AUC and pointing game of heatmaps against the boxes and masks of experts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salad.evaluation.rates import Rate

logger = logging.getLogger(__name__)

DROPPED_BITS = 14  # of the 32 bits of a float: the remaining ones resolve differences of 0.2 %
NUM_BINS = 1 << (32 - DROPPED_BITS)
MOST_MISFITS = 0.05  # share of the marked images; beyond it the boxes were probably drawn in images of another size


@dataclass(frozen=True, kw_only=True)
class MapScore:
    """Localisation metrics of one kind of map.

    Attributes:
        pixel_auc: AUC over all pixels of the marked images, pixels inside the marks against pixels outside; None where
            all pixels are marked. It has no interval, because the pixels of an image are not independent.
        pointing: share of images whose largest value lies inside a mark (pointing game).
    """

    pixel_auc: float | None
    pointing: Rate

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"pixel_auc": self.pixel_auc, "pointing_game": self.pointing.as_json()}


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """Localisation metrics of all kinds of map, over the marked images.

    Attributes:
        maps: metrics by kind of map, ``error``, ``memory`` or ``score``.
        chance: hit rate of the pointing game for a random pixel; this is the mean share of an image that is marked.
        num_images: number of marked images.
    """

    maps: dict[str, MapScore]
    chance: float
    num_images: int

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        maps = {f"{name}_map": score.as_json() for name, score in self.maps.items()}
        return {"num_marked": self.num_images, "pointing_game_by_chance": self.chance, **maps}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of the table on the screen."""
        rows = []
        for name, score in self.maps.items():
            value = "undefined" if score.pixel_auc is None else f"{score.pixel_auc:.4f}"
            rows.append((f"pixel AUC, {name} map", f"{value}; {self.num_images} images with marks"))
            rows.append(("  pointing game", f"{score.pointing}, by chance {self.chance:.4f}"))
        return rows


@dataclass
class _Count:
    """Histograms of one kind of map: values outside the marks in row 0, inside in row 1."""

    values: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, NUM_BINS), np.int64))
    hits: int = 0

    def add(self, heat: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        bins = _bins(heat)
        for is_marked, row in enumerate(self.values):
            row += np.bincount(bins[mask == is_marked], minlength=NUM_BINS)
        self.hits += int(mask.flat[heat.argmax()])

    @property
    def auc(self) -> float | None:
        outside, inside = self.values
        if not outside.any() or not inside.any():
            return None
        below = outside.cumsum() - outside / 2  # ties count half
        return float((inside * below).sum() / inside.sum() / outside.sum())


class Marks:
    """Compare maps with marks image by image; memory use does not grow with the number of images."""

    def __init__(self) -> None:
        self.maps: dict[str, _Count] = {}
        self.num_images = 0
        self.num_misfits = 0
        self.share = 0.0

    def add(self, mask: NDArray[np.bool_] | None, maps: dict[str, NDArray[np.float32] | None]) -> None:
        """Count an image.

        Args:
            mask: True inside the marks, (S, S); None where the marks do not fit the image.
            maps: by kind of map, (S, S); larger values are more anomalous.
        """
        if mask is None or not mask.any():  # a crop can cut off all marks
            self.num_misfits += mask is None
            return
        self.num_images += 1
        self.share += float(mask.mean())
        for name, heat in maps.items():
            if heat is not None:
                self.maps.setdefault(name, _Count()).add(heat, mask)

    def merge(self, other: Marks) -> None:
        """Add the counts of another process."""
        self.num_images += other.num_images
        self.num_misfits += other.num_misfits
        self.share += other.share
        for name, count in other.maps.items():
            own = self.maps.setdefault(name, _Count())
            own.values += count.values
            own.hits += count.hits

    def result(self) -> Localisation | None:
        """Compute the metrics over all images; None without marked images, or where boxes do not fit the images."""
        if self.num_misfits:
            logger.warning(
                "the boxes of %d of %d images lie outside them: were the images resized?",
                self.num_misfits,
                self.num_misfits + self.num_images,
            )
        if self.num_images == 0 or self.num_misfits > MOST_MISFITS * (self.num_misfits + self.num_images):
            return None
        maps = {
            name: MapScore(pixel_auc=count.auc, pointing=Rate(count.hits, self.num_images))
            for name, count in self.maps.items()
        }
        return Localisation(maps=maps, chance=self.share / self.num_images, num_images=self.num_images)


def _bins(heat: NDArray[np.float32]) -> NDArray[np.int32]:
    """Map values to bins that keep their order, by the upper bits of a float: (S, S) -> (S, S), in 0..NUM_BINS-1."""
    bits = (heat.astype(np.float32) + np.float32(0)).view(np.int32)  # -0 becomes 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # for negative floats, larger bits mean smaller values
    return (ordered >> DROPPED_BITS) + NUM_BINS // 2
