"""Where a local score finds images unlike normal ones, and the normal images that they are nearest to by it."""

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

MOST_OWN = 500  # rows of a memory whose distances to the others are measured


@dataclass(kw_only=True)
class PatchViews:
    """Maps and neighbours by the local parts of a score.

    Attributes:
        memories: by name of the part, on the device.
        backbone: for the part ``backbone``.
        standards: of the parts of a fused score; None of one that is not.
        levels: of the distances of normal images at each place, by name of the part.
        normals: which normal images these are: ``training`` or ``validation``.
        places: of the image behind each row of the memories, among the rows of normal images; None where the rows at
            different places are of different images.
    """

    memories: dict[str, PatchMemory]
    backbone: Backbone | None
    standards: Standards | None
    levels: dict[str, ErrorLevels]
    normals: str = "training"
    places: Sequence[int] | None

    @property
    def is_whole(self) -> bool:
        """Whether images are shown with nothing cut off: where the backbone alone has scored them."""
        return "local" not in self.memories

    def features(self, inputs: Inputs) -> dict[str, PatchMaps]:
        """What the parts compare, by name."""
        return {part: SCORES[part].load_features()(inputs, self.backbone) for part in self.memories}

    def distances(self, features: dict[str, PatchMaps]) -> dict[str, Tensor]:
        """Of each part, the distances at each place of its grid, (B, G, G)."""
        return {part: self.memories[part].distances(one) for part, one in features.items()}

    def maps(self, distances: dict[str, Tensor], inputs: Inputs) -> Tensor:
        """The distances in standard deviations above normal images, as a mean over the parts, (B, S, S).

        Of several parts, they show what the network sees, for the backbone sees that and more.
        """
        found = []
        for part, grid in distances.items():
            side = (inputs.framed if part == "local" else inputs.whole).shape[-1]
            margin = 0 if part == "local" or self.is_whole else inputs.preprocessing.margin
            heat = self.levels[part].deviations(grid)[:, None]
            heat = F.interpolate(heat, size=(side, side), mode="bilinear")[:, 0]
            found.append(heat[:, margin : side - margin, margin : side - margin])
        return torch.stack(found).mean(dim=0)

    def score_maps(self, distances: dict[str, Tensor], inputs: Inputs) -> list[ScoreMap]:
        """The maps of a batch over its images."""
        pixels = (inputs.whole if self.is_whole else inputs.framed)[:, 0].cpu().numpy()
        maps = self.maps(distances, inputs).float().cpu().numpy()
        return [
            ScoreMap(pixels=one, values=values, normals=self.normals) for one, values in zip(pixels, maps, strict=True)
        ]

    def nearest(self, features: dict[str, PatchMaps], *, k: int) -> list[list[tuple[int, float]]]:
        """Of each image, the normal images that it is nearest to: the place of each in `places`, and its distance."""
        if self.places is None:
            return [[] for _ in next(iter(features.values())).features]
        parts = []
        for part, one in features.items():
            mean, std = self.standards.of[part] if self.standards else (0.0, 1.0)
            parts.append((self.memories[part].image_distances(one) - mean) / std)
        found = torch.stack(parts).mean(dim=0).topk(min(k, len(self.places)), dim=1, largest=False)
        return [
            [(self.places[number], distance) for number, distance in zip(*pair, strict=True)]
            for pair in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]


def make_views(model: ScoringModel, *, places: Sequence[int]) -> PatchViews | None:
    """Make the views of a score; None where it has no patch memory.

    Args:
        model: of the score.
        places: of each normal training image, in their order.
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
    """How far the images of a memory are from each other."""
    levels = Levels()
    if memory.rows.shape[1] > 1:
        levels.add(memory.own_distances(most=MOST_OWN))
    flat = torch.zeros(memory.grid, memory.grid, device=memory.rows.device)
    return levels.measured(least=2) or ErrorLevels(flat, flat + 1)  # of a single image nothing is known
