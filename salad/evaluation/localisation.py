"""Measure localisation: pixel AUC and pointing game of heatmaps against the boxes and masks of experts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salad.evaluation.subgroups import index_by_name
from salad.samples import Sample

logger = logging.getLogger(__name__)

DROPPED_BITS = 14  # of the 32 bits of a float: the remaining ones resolve differences of 0.2 %
NUM_BINS = 1 << (32 - DROPPED_BITS)
MOST_MISFITS = 0.05  # share of the marked images; beyond it the boxes were probably drawn in images of another size
NUM_RESAMPLES = 1000
GROUPS: dict[str, Callable[[Sample], Sequence[str]]] = {
    "finding": lambda sample: sample.findings,
    "view": lambda sample: (sample.view,) if sample.view else (),
}


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Mean over images, with the percentile interval of a bootstrap over images.

    Attributes:
        value: mean, in [0, 1].
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        of: number of images.
    """

    value: float
    low: float
    high: float
    of: int

    @classmethod
    def measure(cls, values: NDArray[np.float64], *, seed: int) -> Mean | None:
        """Measure the mean of the values of images, (N,), with NaN for an image without one; None without values."""
        known = values[np.isfinite(values)]
        if not len(known):
            return None
        generator = np.random.default_rng(seed)
        means = [known[generator.integers(len(known), size=len(known))].mean() for _ in range(NUM_RESAMPLES)]
        low, high = np.quantile(means, [0.025, 0.975])
        return cls(value=float(known.mean()), low=float(low), high=float(high), of=len(known))

    def __str__(self) -> str:
        return f"{self.value:.4f} (95 % CI {self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True, kw_only=True)
class MapScore:
    """Localisation metrics of one kind of map.

    Attributes:
        pixel_auc: AUC over the pixels of an image, pixels inside the marks against pixels outside, averaged over the
            images; None where all pixels of all images are marked.
        pooled: the same over the pixels of all images together, which also compares an image with another; None where
            all pixels are marked. It has no interval, because the pixels of an image are not independent.
        pointing: share of images whose largest value lies inside a mark (pointing game).
    """

    pixel_auc: Mean | None
    pooled: float | None = None
    pointing: Mean

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        area = self.pixel_auc and asdict(self.pixel_auc)
        pooled = {} if self.pooled is None else {"pixel_auc_pooled": self.pooled}
        return {"pixel_auc": area, **pooled, "pointing_game": asdict(self.pointing)}


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """Localisation metrics of all kinds of map, over the marked images.

    Attributes:
        maps: metrics by kind of map, ``error``, ``memory`` or ``score``.
        chance: hit rate of the pointing game for a random pixel; this is the mean share of an image that is marked.
        num_images: number of marked images.
        groups: metrics of the images of each finding and view, by kind and name.
    """

    maps: dict[str, MapScore]
    chance: float
    num_images: int
    groups: dict[str, dict[str, Localisation]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        maps = {f"{name}_map": score.as_json() for name, score in self.maps.items()}
        groups = {
            f"by_{kind}": {name: located.as_json() for name, located in of_kind.items()}
            for kind, of_kind in self.groups.items()
        }
        return {"num_marked": self.num_images, "pointing_game_by_chance": self.chance, **maps, **groups}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of the table on the screen."""
        rows = []
        for name, score in self.maps.items():
            rows.append(
                (f"pixel AUC, {name} map", f"{score.pixel_auc or 'undefined'}; {self.num_images} marked images")
            )
            rows.append(("  pointing game", f"{score.pointing}, by chance {self.chance:.4f}"))
            for group, located in self.of_groups():
                own = located.maps.get(name)
                said = f"by chance {located.chance:.4f}; {located.num_images} marked images"
                rows += [(f"  pointing game, {group}", f"{own.pointing}, {said}")] if own else []
        return rows

    def of_groups(self) -> list[tuple[str, Localisation]]:
        """List the groups of images with the kind before their names, as in ``view PA``."""
        return [(f"{kind} {name}", located) for kind, of in self.groups.items() for name, located in of.items()]


class _Marked(NamedTuple):
    """Marked image: its share of marked pixels, and by kind of map its pixel AUC (or NaN) and a hit (1) or miss (0)."""

    sample: Sample
    share: float
    values: dict[str, tuple[float, float]]


class Marks:
    """Compare maps with marks image by image; a marked image takes a few numbers, and no pixels are kept."""

    def __init__(self) -> None:
        self.images: list[_Marked] = []
        self.pixels: dict[str, NDArray[np.int64]] = {}  # histograms of `_histogram` over all images, by kind of map
        self.num_misfits = 0

    def add(self, sample: Sample, mask: NDArray[np.bool_] | None, maps: Mapping[str, NDArray[np.float32]]) -> None:
        """Count an image.

        Args:
            sample: the image, with its findings and view.
            mask: True inside the marks, (S, S); None where the marks do not fit the image.
            maps: by kind of map, (S, S); larger values are more anomalous.
        """
        if mask is None or not mask.any():  # a crop can cut off all marks
            self.num_misfits += mask is None
            return
        values = {}
        for name, heat in maps.items():
            counts = _histogram(heat, mask)
            self.pixels[name] = self.pixels.get(name, 0) + counts
            values[name] = _area(counts), float(mask.flat[heat.argmax()])
        self.images.append(_Marked(sample, float(mask.mean()), values))

    def merge(self, other: Marks) -> None:
        """Add the images of another process."""
        self.images += other.images
        self.num_misfits += other.num_misfits
        for name, counts in other.pixels.items():
            self.pixels[name] = self.pixels.get(name, 0) + counts

    def result(self, *, seed: int) -> Localisation | None:
        """Compute the metrics over all images, and of each finding and view where there are several.

        Args:
            seed: of the bootstrap.

        Returns:
            The metrics; None without marked images, or where boxes do not fit the images.
        """
        num_images = len(self.images)
        if self.num_misfits:
            logger.warning(
                "the boxes of %d of %d images lie outside them: were the images resized?",
                self.num_misfits,
                self.num_misfits + num_images,
            )
        if num_images == 0 or self.num_misfits > MOST_MISFITS * (self.num_misfits + num_images):
            return None
        groups = {}
        for kind, names_of in GROUPS.items():
            index = index_by_name({*names_of(image.sample)} for image in self.images)
            if len(index) > 1:
                groups[kind] = {name: _measure([self.images[i] for i in at], seed=seed) for name, at in index.items()}
        pooled = {name: None if np.isnan(area := _area(counts)) else area for name, counts in self.pixels.items()}
        return _measure(self.images, seed=seed, pooled=pooled, groups=groups)


def _measure(
    images: Sequence[_Marked],
    *,
    seed: int,
    pooled: dict[str, float | None] | None = None,
    groups: dict[str, dict[str, Localisation]] | None = None,
) -> Localisation:
    """Compute the metrics of marked images."""
    maps = {}
    for name in dict.fromkeys(name for image in images for name in image.values):
        areas, hits = np.array([image.values[name] for image in images if name in image.values]).T
        pointing = Mean.measure(hits, seed=seed)
        assert pointing is not None, "an image of the map has a hit or a miss"
        maps[name] = MapScore(
            pixel_auc=Mean.measure(areas, seed=seed), pooled=(pooled or {}).get(name), pointing=pointing
        )
    chance = float(np.mean([image.share for image in images]))
    return Localisation(maps=maps, chance=chance, num_images=len(images), groups=groups or {})


def _histogram(heat: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the values of a map in each bin, outside the marks in row 0 and inside in row 1: (2, NUM_BINS)."""
    bins = _bins(heat)
    return np.stack([np.bincount(bins[mask == is_marked], minlength=NUM_BINS) for is_marked in (False, True)])


def _area(counts: NDArray[np.int64]) -> float:
    """Compute the AUC of the pixels behind a histogram; NaN where all or none are marked."""
    outside, inside = counts
    if not outside.any() or not inside.any():
        return float("nan")
    below = outside.cumsum() - outside / 2  # ties count half
    return float((inside * below).sum() / inside.sum() / outside.sum())


def _bins(heat: NDArray[np.float32]) -> NDArray[np.int32]:
    """Map values to bins that keep their order, by the upper bits of a float: (S, S) -> (S, S), in 0..NUM_BINS-1."""
    bits = (heat.astype(np.float32) + np.float32(0)).view(np.int32)  # -0 becomes 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # for negative floats, larger bits mean smaller values
    return (ordered >> DROPPED_BITS) + NUM_BINS // 2
