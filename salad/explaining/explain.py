"""Explain the score of an image by its reconstruction, heatmaps and nearest normal images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from salad.explaining.explanation import Explanation, Neighbour
from salad.explaining.heatmaps import ErrorLevels, error_maps, memory_maps
from salad.explaining.maps import DEVIATIONS_RANGE, DISTANCE_RANGE, RAW_RANGE, ErrorMap, HeatMap, MemoryMap
from salad.explaining.patch_views import PatchViews
from salad.nearest import nearest
from salad.patch_memory import PatchMaps
from salad.scores.inputs import Inputs, to_images
from salad.scoring.model import ScoringModel

NUM_NEIGHBOURS = 5

TrainImages = Callable[[list[int]], np.ndarray]
"""Function from row indices to the decoded pixels of the images of these rows, (n, S0, S0) uint8."""
Near = list[list[tuple[int, float]]]  # for each image of a batch: row index and angle or distance of its neighbours


class Seen(NamedTuple):
    """Maps of a batch, (B, S, S), its neighbours by embedding and their pixels, and its patch features."""

    inputs: Inputs
    errors: Tensor | None  # error maps, in [0, 2]
    distances: Tensor | None  # memory maps, in [0, 2]
    near: Near
    normal: dict[int, np.ndarray]  # pixels of the neighbours by row index
    features: dict[str, PatchMaps]  # patch features by part of the score, where neighbours are wanted


class Explainer:
    """Explain images by the memory rows of normal images.

    Args:
        model: model that scores the images.
        row_names: name of the image behind each normal row, N names.
        train_images: reads the pixels of these images; None where the images are not available.
        views: of a score with patch memories, which then choose the neighbours; None for other scores.
        num_pictured: number of rows, the first ones, whose images `train_images` reads; None for all.
        reconstructs: whether a loss has trained the network to reconstruct.
        embeds: whether a loss has trained the embeddings.

    Attributes:
        levels: mean and standard deviation of the error maps of validation normals; None leaves error maps unscaled.
        memory_range: values of the memory map at which its colours begin and end.
    """

    def __init__(
        self,
        model: ScoringModel,
        *,
        row_names: Sequence[str],
        train_images: TrainImages | None,
        views: PatchViews | None = None,
        num_pictured: int | None = None,
        reconstructs: bool = True,
        embeds: bool = True,
    ) -> None:
        self.model = model
        self.network = model.network.eval()
        self.rows = model.normals.rows
        self.row_names = row_names
        self.train_images = train_images
        self.num_pictured = len(row_names) if num_pictured is None else num_pictured
        self.device = model.context.device
        self.preprocessing = model.context.preprocessing
        self.num_neighbours = NUM_NEIGHBOURS
        self.levels: ErrorLevels | None = None
        self.views = views
        self.reconstructs = reconstructs
        self.compares_embeddings = embeds and views is None
        self.memory_range = DISTANCE_RANGE
        self.most_rows = max(Counter(row_names).values())  # largest number of rows of an image

    @torch.no_grad()
    def explain(self, grey: Tensor, *, finds_neighbours: bool = True) -> list[Explanation]:
        """Explain a batch.

        Args:
            grey: decoded pixels, (B, 1, S0, S0), uint8.
            finds_neighbours: False for the maps alone, which a score with a patch memory has without neighbours.

        Raises:
            InputError: a training image can no longer be read.
        """
        batch = self.model.score(grey)
        seen = self.look_at(batch.inputs, finds_neighbours=finds_neighbours)
        framed = seen.inputs.framed[:, 0].cpu().numpy()
        neighbours = self._neighbours_of(seen) if finds_neighbours else [()] * len(grey)
        scores, parts, maps = (
            self.model.combine(batch.parts),
            self.model.standardized(batch.parts),
            self._maps(seen, framed),
        )
        calibration = self.model.calibration
        percentiles = [None] * len(grey) if calibration is None else calibration.percentile(scores).tolist()
        return [
            Explanation(
                pixels=framed[i],
                score=float(scores[i]),
                percentile=percentiles[i],
                parts={name: float(values[i]) for name, values in parts.items()},
                maps={kind: of_kind[i] for kind, of_kind in maps.items()},
                neighbours=neighbours[i],
            )
            for i in range(len(grey))
        ]

    def _maps(self, seen: Seen, pixels: np.ndarray) -> dict[str, Sequence[HeatMap]]:
        """Make the maps of a batch of images with these pixels, (B, S, S), for each kind one of each image."""
        maps: dict[str, Sequence[HeatMap]] = {}
        if self.views:
            maps["score"] = self.views.score_maps(seen.inputs)
        if seen.distances is not None:
            distances = seen.distances.float().cpu().numpy()
            between = self.memory_range
            maps["memory"] = [
                MemoryMap(pixels=of_image, values=values, between=between)
                for of_image, values in zip(pixels, distances, strict=True)
            ]
        if seen.errors is not None:
            errors = seen.errors if self.levels is None else self.levels.deviations(seen.errors)
            between = RAW_RANGE if self.levels is None else DEVIATIONS_RANGE
            maps["error"] = [
                ErrorMap(pixels=of_image, recon=recon, values=values, between=between)
                for of_image, recon, values in zip(
                    pixels, _reconstructions(seen), errors.float().cpu().numpy(), strict=True
                )
            ]
        return maps

    @torch.no_grad()
    def look_at(self, inputs: Inputs, *, finds_neighbours: bool = True) -> Seen:
        """Compute the maps of a batch as tensors on the device."""
        errors = error_maps(inputs.images, inputs.recon) if self.reconstructs else None
        near: Near = [[] for _ in inputs.grey]
        normal: dict[int, np.ndarray] = {}
        distances = None
        if self.compares_embeddings:
            near = self._near(inputs.z, self.rows)
            is_all = self.num_pictured == len(self.row_names)
            pictured = near if is_all else self._near(inputs.z, self.rows[: self.num_pictured])
            normal, distances = self._compare(inputs.images, pictured)
        features = self.views.features(inputs) if self.views and finds_neighbours else {}
        return Seen(inputs, errors, distances, near, normal, features)

    def _neighbours_of(self, seen: Seen) -> list[tuple[Neighbour, ...]]:
        """List the neighbours of each image: by a score with patch memories, else by the embedding.

        Without a patch memory and without a trained embedding there are none.
        """
        if self.views is not None:
            near = self.views.nearest(seen.features, k=self.num_neighbours)
            pixels = self._read(near, is_whole=self.views.is_whole)
            normal = {row: image[0].cpu().numpy() for row, image in pixels.items()}
        else:
            near, normal = seen.near, seen.normal
        is_angle = self.views is None
        return [
            tuple(
                Neighbour(name=self.row_names[i], pixels=normal.get(i), distance=far, is_angle=is_angle)
                for i, far in of_image
            )
            for of_image in near
        ]

    def _near(self, z: Tensor, rows: Tensor) -> Near:
        """Find the nearest images of each embedding among the images of rows, which are the first of all rows."""
        values, index = nearest(z, rows, k=min(self.num_neighbours * self.most_rows, len(rows)))
        order = values.argsort(dim=1, descending=True)
        pairs = zip(values.gather(1, order), index.gather(1, order), strict=True)
        return [self._nearest_images(cosines, of_image) for cosines, of_image in pairs]

    def _nearest_images(self, cosines: Tensor, index: Tensor) -> list[tuple[int, float]]:
        """Choose the nearest row of each of the nearest images: row index, and angle as a fraction of pi."""
        nearest_of: dict[str, tuple[int, float]] = {}
        for row, cosine in zip(index.tolist(), cosines.tolist(), strict=True):
            nearest_of.setdefault(self.row_names[row], (row, math.acos(max(-1.0, min(1.0, cosine))) / math.pi))
        return [*nearest_of.values()][: self.num_neighbours]

    def _read(self, near: Near, *, is_whole: bool = False) -> dict[int, Tensor]:
        """Read the neighbours of a batch, each image once: pixels in the frame of the scores, (1, S, S), uint8, by row.

        Args:
            near: neighbours of each image.
            is_whole: whether the frame includes the border that --crop cuts off.
        """
        needed = sorted({row for of_image in near for row, _ in of_image if row < self.num_pictured})
        if self.train_images is None or not needed:
            return {}
        grey = torch.from_numpy(self.train_images(needed))[:, None].to(self.device)
        seen = self.preprocessing.view(grey, self.preprocessing.fit(grey), is_whole=is_whole)
        return dict(zip(needed, seen, strict=True))

    def _compare(self, images: Tensor, near: Near) -> tuple[dict[int, np.ndarray], Tensor | None]:
        """Compute the memory maps of a batch, (B, S, S), and return them after the pixels of the neighbours by row."""
        normal = self._read(near)
        if not normal:
            return {}, None
        batches = torch.split(torch.stack([*normal.values()]), len(images))
        features = torch.cat([self.network.patch_features(to_images(batch)) for batch in batches])
        position = {row: i for i, row in enumerate(normal)}
        index = torch.tensor([[position[row] for row, _ in of_image] for of_image in near], device=self.device)
        maps = memory_maps(self.network.patch_features(images), features, index, isize=images.shape[-1])
        return {row: image[0].cpu().numpy() for row, image in normal.items()}, maps


def _reconstructions(seen: Seen) -> np.ndarray:
    """Convert the reconstructions of a batch to pixels, (B, S, S), uint8."""
    levels = ((seen.inputs.recon.mean(dim=1) + 1) * 127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).cpu().numpy()
