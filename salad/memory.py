"""Memory bank with one unit row for each view of each training image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class MemoryBank:
    """Moving averages of the training embeddings (Wu et al., CVPR 2018).

    With V views of an image, row ``i * V + v`` belongs to view v of image i. Entries start uniformly distributed in
    [-sqrt(3/D), sqrt(3/D)], so that rows have about unit length. Rows never get gradients.

    Args:
        num_rows: N * V, the number of training images times the number of views.
        dim: D, the length of an embedding.
        temperature: tau > 0 of the softmax over the rows; stored here because published files store it with the bank.
        momentum: eta in [0, 1), the share of the old row that an update keeps.
        device: device of the rows.
        dtype: type of the rows.

    Attributes:
        rows: rows of the bank, (num_rows, dim).
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
        # drawn on the CPU, so that a seed gives the same bank on every device
        self.rows = torch.empty(num_rows, dim, dtype=dtype).uniform_(-bound, bound).to(device)
        self.temperature = temperature
        self.momentum = momentum

    @torch.no_grad()
    def update(self, index: Tensor, z: Tensor) -> None:
        """Move rows towards new embeddings: M_i <- normalise(eta M_i + (1 - eta) z_i).

        Args:
            index: numbers of the rows to move, (B,), without repetition.
            z: new unit embeddings for these rows, (B, dim).
        """
        old = self.rows[index]
        self.rows[index] = F.normalize(torch.lerp(z.detach().to(old.dtype), old, self.momentum), dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the bank under the names of published files: `memory` (N, D), `params` (temperature, momentum)."""
        return {"memory": self.rows, "params": torch.tensor([self.temperature, self.momentum])}

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], *, device: torch.device | str = "cpu") -> MemoryBank:
        """Rebuild a bank from `state_dict` or from a published file."""
        # 7 digits, to remove the rounding noise of float32
        temperature, momentum = (float(f"{value:.7g}") for value in state["params"].tolist())
        bank = cls(0, state["memory"].shape[1], temperature=temperature, momentum=momentum)
        bank.rows = state["memory"].to(device)
        return bank
