"""The memory bank: one unit row for every view of every training image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class MemoryBank:
    """Slowly moving copies of the training embeddings (Wu et al., CVPR 2018).

    With V views of an image, row ``i * V + v`` belongs to view v of image i. Rows start uniform in
    [-sqrt(3/D), sqrt(3/D)] per entry, that is, with about unit length. No gradient ever reaches them.

    Args:
        num_rows: N * V, the number of training images times the number of views.
        dim: D, the length of an embedding.
        temperature: tau > 0 of the softmax over the rows; it lives here because published files keep it here.
        momentum: eta in [0, 1), the share of the old row that an update keeps.

    Attributes:
        rows: the bank itself, (num_rows, dim).
    """

    def __init__(
        self,
        num_rows: int,
        dim: int,
        *,
        temperature: float,
        momentum: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        bound = math.sqrt(3 / dim)
        # drawn on the CPU so that a seed gives the same bank on every device
        self.rows = torch.empty(num_rows, dim, dtype=dtype).uniform_(-bound, bound).to(device)
        self.temperature = temperature
        self.momentum = momentum

    @torch.no_grad()
    def update(self, index: Tensor, z: Tensor) -> None:
        """Move rows towards new embeddings: M_i <- normalise(eta M_i + (1 - eta) z_i).

        Args:
            index: rows to move, (B,), each at most once.
            z: their new unit embeddings, (B, dim).
        """
        old = self.rows[index]
        self.rows[index] = F.normalize(torch.lerp(z.detach().to(old.dtype), old, self.momentum), dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        """The bank under the names of the published files: `memory` (N, D), `params` = (temperature, momentum)."""
        return {"memory": self.rows, "params": torch.tensor([self.temperature, self.momentum])}

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], *, device: torch.device | str = "cpu") -> MemoryBank:
        """Rebuild a bank from `state_dict` or from a published file."""
        temperature, momentum = (float(f"{value:.7g}") for value in state["params"].tolist())  # float32 noise off
        bank = cls(0, state["memory"].shape[1], temperature=temperature, momentum=momentum)
        bank.rows = state["memory"].to(device)
        return bank
