"""Compute the heatmaps and the nearest normal images of a score with patch memories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from salad.checkpoint import Checkpoint
from salad.evaluation.calibration import Standards
from salad.explaining.maps import ScoreMap
from salad.networks.backbones import Backbone
from salad.patch_memory import PatchMaps, PatchMemory
from salad.samples import Split
from salad.scores import SCORES
from salad.scores.inputs import Inputs
from salad.scoring.fine_maps import FineMap, find_map
from salad.scoring.model import ScoringModel

LEAST_THRESHOLD = 1e-3  # of a map, where those of normal images are 0


@dataclass(kw_only=True)
class PatchViews:
    """Heatmaps and neighbours of the parts of a score that have a patch memory.

    Attributes:
        memories: patch memory by name of the part, on the device.
        backbone: frozen network of the part ``backbone``; None without that part.
        standards: mean and standard deviation of the parts of a fused score; None for other scores.
        map: fine map of the model.
        specificity: share of normal images whose maps nowhere exceed the threshold, in (0, 1].
        places: index, among the memory rows of normal images, of the image behind each row of a patch memory; None
            where the grid cells of a memory hold patches of different images, so that there are no neighbours.
    """

    memories: dict[str, PatchMemory]
    backbone: Backbone | None
    standards: Standards | None
    map: FineMap
    specificity: float
    places: Sequence[int] | None

    @property
    def is_whole(self) -> bool:
        """True where images are shown uncropped, because only the backbone scores them."""
        return SCORES[self.map.sources.part].sees_whole

    def features(self, inputs: Inputs) -> dict[str, PatchMaps]:
        """Compute the patch features of a batch, by name of the part."""
        return {part: SCORES[part].load_features()(inputs, self.backbone) for part in self.memories}

    def score_maps(self, inputs: Inputs) -> list[ScoreMap]:
        """Make the score maps of a batch."""
        framed, whole = inputs.framed[:, 0].cpu().numpy(), inputs.whole[:, 0].cpu().numpy()
        values = self.map.values(inputs).float().cpu().numpy()
        return [
            ScoreMap(
                pixels=film if self.is_whole else pixels,
                values=of_image,
                threshold=self.threshold,
                specificity=self.specificity,
                normals=self.map.normals,
                film=film,
            )
            for pixels, film, of_image in zip(framed, whole, values, strict=True)
        ]

    @property
    def threshold(self) -> float:
        """Value that the maps of a share `specificity` of normal images exceed nowhere, above 0."""
        return max(self.map.peaks.threshold(self.specificity), LEAST_THRESHOLD)

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


def make_views(
    model: ScoringModel, checkpoint: Checkpoint, *, places: Sequence[int], find_normals: Callable[[], Split | None]
) -> PatchViews | None:
    """Make the patch views of a model; None where its score has no patch memory.

    Args:
        model: model that scores the images.
        checkpoint: checkpoint that the model was loaded from.
        places: index of the first memory row of each normal training image, in the order of the images.
        find_normals: finds normal validation images, scanned, to set the scale of a map that the checkpoint lacks.
    """
    fine = find_map(model, checkpoint, find_normals)
    if fine is None:
        return None
    return PatchViews(
        memories=dict(model.memories),
        backbone=model.normals.backbone,
        standards=model.standards,
        map=fine,
        specificity=model.config.scoring.specificity,
        places=places if all(memory.rows.shape[1] == len(places) for memory in model.memories.values()) else None,
    )
