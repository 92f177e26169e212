"""A checkpoint as one module that needs nothing of this program: from grey images to scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from salad.images.preprocessing import Preprocessing
from salad.patch_memory import PatchMaps, PatchMemory, pool_cells, weigh
from salad.scores import SCORES
from salad.scores.inputs import Inputs
from salad.scores.knn import mean_angle

if TYPE_CHECKING:
    from salad.evaluation.calibration import Standards
    from salad.networks import Network
    from salad.networks.backbones import Backbone

PARTS = {name for name, spec in SCORES.items() if spec.exportable}


class PatchDistances(nn.Module):
    """What `PatchMemory.scores` gives, for all places at once: without a loop, or blocks of images.

    Args:
        memory: of normal images.
    """

    rows: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(self, memory: PatchMemory) -> None:
        super().__init__()
        self.grid = memory.grid
        for name, tensor in memory.state_dict().items():
            self.register_buffer(name, tensor)

    def forward(self, maps: PatchMaps) -> Tensor:
        """Mean distance over all places, by how much of each is seen, (B,)."""
        cells = pool_cells(maps, self.grid)
        queries = ((cells.features - self.mean) @ self.whitening).transpose(0, 1)
        rows = self.rows.float()
        nearest = (rows.square().sum(dim=2)[:, None] - 2 * torch.bmm(queries, rows.mT)).argmin(dim=2)
        index = nearest[:, :, None].expand(-1, -1, rows.shape[2])
        distances: Tensor = torch.linalg.vector_norm(queries - rows.gather(1, index), dim=2)
        return weigh(distances.T, cells.seen)


class Angles(nn.Module):
    """The score ``knn``.

    Args:
        rows: memory rows of normal images, (N, D).
        k: nearest rows behind a score, in 1..N.
    """

    rows: Tensor

    def __init__(self, rows: Tensor, *, k: int) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.k = k

    def forward(self, z: Tensor) -> Tensor:
        """Mean angle to the nearest rows, (B,), of unit embeddings (B, D)."""
        return mean_angle(torch.mm(z, self.rows.T).topk(self.k, dim=1).values)


class Portable(nn.Module):
    """The steps of scoring after the resizing, without a loop or a branch.

    Args:
        network: in eval mode.
        rows: memory rows of normal images, (N, D).
        parts: the scores that are fused, or the only one; of `PARTS`.
        k: nearest rows behind the part ``knn``, in 1..N.
        preprocessing: of the images.
        memories: of the local parts.
        standards: of the parts where they are fused.
        backbone: for the part ``backbone``.
    """

    def __init__(
        self,
        network: Network,
        rows: Tensor,
        *,
        parts: tuple[str, ...],
        k: int,
        preprocessing: Preprocessing,
        memories: dict[str, PatchMemory],
        standards: Standards | None = None,
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.backbone = backbone
        self.preprocessing = preprocessing
        self.parts = nn.ModuleDict(
            {part: PatchDistances(memories[part]) if SCORES[part].features else Angles(rows, k=k) for part in parts}
        )
        self.standards = standards

    def forward(self, grey: Tensor) -> tuple[Tensor, ...]:
        """Scores (B,) of images (B, 1, S0, S0), uint8, as they are after resizing; before them, what ``knn`` is of.

        That is the unit embeddings (B, D), where it is a part of the score.
        """
        inputs = Inputs(self.network, grey, self.preprocessing)
        found = {
            part: module(SCORES[part].load_features()(inputs, self.backbone) if SCORES[part].features else inputs.z)
            for part, module in self.parts.items()
        }
        if self.standards is not None:
            scores = torch.stack([(found[part] - mean) / std for part, (mean, std) in self.standards.of.items()])
        else:
            scores = torch.stack([*found.values()])
        return (*((inputs.z,) if "knn" in found else ()), scores.mean(dim=0))
