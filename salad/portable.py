"""A checkpoint as one module that needs nothing of this program: from grey images to embeddings and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from salad.datasets.augment import to_network
from salad.datasets.preprocess import Preprocessing
from salad.scoring import mean_angle

if TYPE_CHECKING:
    from salad.networks import Network


class Portable(nn.Module):
    """The steps of scoring after the resizing, without a loop or a branch.

    Args:
        network: in eval mode.
        rows: memory rows of normal images, (N, D).
        k: nearest rows behind a score, in 1..N.
        preprocessing: of the images.
    """

    rows: Tensor

    def __init__(self, network: Network, rows: Tensor, *, k: int, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("rows", rows)
        self.k = k
        self.preprocessing = preprocessing

    def forward(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embeddings (B, D) and kNN scores (B,) of images (B, 1, S0, S0), uint8, as they are after resizing."""
        images = to_network(self.preprocessing(grey) / 255)
        z = self.network.encode(images)
        return z, mean_angle(torch.mm(z, self.rows.T).topk(self.k, dim=1).values)
