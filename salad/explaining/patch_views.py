"""Compute the heatmaps and the nearest normal images of a score with patch memories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from salad.evaluation.calibration import Standards
from salad.explaining.explanation import ScoreMap
from salad.explaining.heatmaps import ErrorLevels, Levels
from salad.networks.backbones import Backbone
from salad.patch_memory import PatchMaps, PatchMemory
from salad.scores import SCORES
from salad.scores.inputs import Inputs
from salad.scoring.model import ScoringModel

MOST_OWN = 500  # images of a patch memory whose distances to the others set the scale, at most


@dataclass(kw_only=True)
class PatchViews:
    """Heatmaps and neighbours of the parts of a score that have a patch memory.

    Attributes:
        memories: patch memory by name of the part, on the device.
        backbone: frozen network of the part ``backbone``; None without that part.
        standards: mean and standard deviation of the parts of a fused score; None for other scores.
        levels: mean and standard deviation of the distances of normal images in each grid cell, by name of the part.
        normals: normal images that set these levels, ``training`` or ``validation``.
        places: index, among the memory rows of normal images, of the image behind each row of a patch memory; None
            where the grid cells of a memory hold patches of different images, so that there are no neighbours.
    """

    memories: dict[str, PatchMemory]
    backbone: Backbone | None
    standards: Standards | None
    levels: dict[str, ErrorLevels]
    normals: str = "training"
    places: Sequence[int] | None

    @property
    def is_whole(self) -> bool:
        """True where images are shown uncropped, because only the backbone scores them."""
        return all(SCORES[part].sees_whole for part in self.memories)

    def features(self, inputs: Inputs) -> dict[str, PatchMaps]:
        """Compute the patch features of a batch, by name of the part."""
        return {part: SCORES[part].load_features()(inputs, self.backbone) for part in self.memories}

    def distances(self, features: dict[str, PatchMaps]) -> dict[str, Tensor]:
        """Compute the distances of the grid cells to the patch memory, (B, G, G), by name of the part."""
        return {part: self.memories[part].distances(of_part) for part, of_part in features.items()}

    def maps(self, distances: dict[str, Tensor], inputs: Inputs) -> Tensor:
        """Convert distances to standard deviations above normal images, and average them over the parts.

        The maps of several parts share the frame of the network, which lies inside the frame of the backbone.

        Args:
            distances: of the grid cells by name of the part, (B, G, G) each.
            inputs: batch that the distances belong to.

        Returns:
            Maps, (B, S, S).
        """
        maps = []
        for part, grid in distances.items():
            is_framed = not SCORES[part].sees_whole
            side = (inputs.framed if is_framed else inputs.whole).shape[-1]
            margin = 0 if is_framed or self.is_whole else inputs.preprocessing.margin
            heat = self.levels[part].deviations(grid)[:, None]
            heat = F.interpolate(heat, size=(side, side), mode="bilinear")[:, 0]
            maps.append(heat[:, margin : side - margin, margin : side - margin])
        return torch.stack(maps).mean(dim=0)

    def score_maps(self, distances: dict[str, Tensor], inputs: Inputs) -> list[ScoreMap]:
        """Make the score maps of a batch from the distances of its grid cells, (B, G, G) by name of the part."""
        pixels = (inputs.whole if self.is_whole else inputs.framed)[:, 0].cpu().numpy()
        maps = self.maps(distances, inputs).float().cpu().numpy()
        return [
            ScoreMap(pixels=image, values=values, normals=self.normals)
            for image, values in zip(pixels, maps, strict=True)
        ]

    def nearest(self, features: dict[str, PatchMaps], *, k: int) -> list[list[tuple[int, float]]]:
        """Find the k nearest normal images of each image.

        Args:
            features: patch features of a batch, by name of the part.
            k: number of neighbours; fewer where there are fewer normal images.

        Returns:
            For each image, (row, distance) of its neighbours, nearest first; the row is an entry of `places`. Empty
            lists where `places` is None.
        """
        if self.places is None:
            return [[] for _ in next(iter(features.values())).features]
        parts = []
        for part, of_part in features.items():
            mean, std = self.standards.of[part] if self.standards else (0.0, 1.0)
            parts.append((self.memories[part].image_distances(of_part) - mean) / std)
        nearest = torch.stack(parts).mean(dim=0).topk(min(k, len(self.places)), dim=1, largest=False)
        return [
            [(self.places[image], distance) for image, distance in zip(*of_query, strict=True)]
            for of_query in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
        ]


def make_views(model: ScoringModel, *, places: Sequence[int]) -> PatchViews | None:
    """Make the patch views of a model; None where its score has no patch memory.

    Args:
        model: model that scores the images.
        places: index of the first memory row of each normal training image, in the order of the images.
    """
    if not model.memories:
        return None
    return PatchViews(
        memories=dict(model.memories),
        backbone=model.normals.backbone,
        standards=model.standards,
        levels={part: _own_levels(memory) for part, memory in model.memories.items()},
        places=places if all(memory.rows.shape[1] == len(places) for memory in model.memories.values()) else None,
    )


def _own_levels(memory: PatchMemory) -> ErrorLevels:
    """Measure the distances between the images of a patch memory in each grid cell."""
    levels = Levels()
    if memory.rows.shape[1] > 1:
        levels.add(memory.own_distances(most=MOST_OWN))
    flat = torch.zeros(memory.grid, memory.grid, device=memory.rows.device)
    return levels.measured(least=2) or ErrorLevels(flat, flat + 1)  # one image has no distances to others
