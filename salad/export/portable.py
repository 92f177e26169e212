"""Portable module of a checkpoint, from grey images to scores, for export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from salad.patch_memory import PatchMaps, PatchMemory, pool_cells, weigh
from salad.scores import SCORES
from salad.scores.inputs import Inputs
from salad.scores.knn import mean_angle

if TYPE_CHECKING:
    from salad.scoring.model import ScoringModel

PARTS = {name for name, spec in SCORES.items() if spec.exportable}


class PatchDistances(nn.Module):
    """Same scores as `PatchMemory.scores`, for all grid cells at once, without loops.

    Args:
        memory: patch memory of normal images.
    """

    rows: Tensor
    mean: Tensor
    whitening: Tensor
    spacing: Tensor

    def __init__(self, memory: PatchMemory) -> None:
        super().__init__()
        self.grid, self.num_nearest, self.share = memory.grid, memory.num_nearest, memory.neighbourhood.share
        self.seen_power = memory.seen_power
        for name, tensor in memory.tensors().items():
            self.register_buffer(name, tensor)

    def forward(self, maps: PatchMaps) -> Tensor:
        """Compute the mean distance over grid cells, less spacing, weighted by what is seen of each cell, (B,)."""
        cells = pool_cells(maps, self.grid)
        queries = ((cells.features - self.mean) @ self.whitening).transpose(0, 1)
        rows = self.rows.float()
        squares = rows.square().sum(dim=2)[:, None] - 2 * torch.bmm(queries, rows.mT)
        total = queries.new_zeros(())
        for nearest in squares.topk(self.num_nearest, dim=2, largest=False).indices.unbind(dim=2):
            index = nearest[:, :, None].expand(-1, -1, rows.shape[2])
            distances = torch.linalg.vector_norm(queries - rows.gather(1, index), dim=2)
            total = total + distances - self.share * self.spacing.gather(1, nearest)
        return weigh((total / self.num_nearest).T, cells.seen, self.seen_power)


class Angles(nn.Module):
    """Score ``knn``.

    Args:
        rows: memory rows of normal images, (N, D).
        k: number of nearest rows, in 1..N.
    """

    rows: Tensor

    def __init__(self, rows: Tensor, *, k: int) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.k = k

    def forward(self, z: Tensor) -> Tensor:
        """Compute the mean angle of unit embeddings (B, D) to the nearest rows, (B,)."""
        return mean_angle(torch.mm(z, self.rows.T).topk(self.k, dim=1).values)


class Portable(nn.Module):
    """Scoring of resized images, without loops or branches on data.

    Args:
        model: scoring model; each part of its score is one of `PARTS`.
    """

    def __init__(self, model: ScoringModel) -> None:
        super().__init__()
        normals = model.normals
        self.network = model.network
        self.backbone = normals.backbone
        self.preprocessing = model.context.preprocessing
        self.parts = nn.ModuleDict(
            {
                part: PatchDistances(normals.memories[part])
                if SCORES[part].features
                else Angles(normals.rows, k=normals.k)
                for part in model.parts
            }
        )
        self.features = {part: SCORES[part].load_features() for part in model.parts if SCORES[part].features}
        self.standards = model.standards

    def forward(self, grey: Tensor) -> tuple[Tensor, ...]:
        """Compute the scores (B,) of resized images (B, 1, S0, S0), uint8.

        Returns:
            Scores (B,), after the unit embeddings (B, D) if ``knn`` is a part of the score.
        """
        inputs = Inputs(self.network, grey, self.preprocessing)
        part_scores = {
            part: module(self.features[part](inputs, self.backbone) if part in self.features else inputs.z)
            for part, module in self.parts.items()
        }
        if self.standards is not None:
            scores = torch.stack([(part_scores[part] - mean) / std for part, (mean, std) in self.standards.of.items()])
        else:
            scores = torch.stack([*part_scores.values()])
        return (*((inputs.z,) if "knn" in part_scores else ()), scores.mean(dim=0))
