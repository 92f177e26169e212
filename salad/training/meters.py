"""What is added up over the batches of one epoch; it can be saved in the middle and taken up again."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor


class Meters:
    """Sums over the batches of an epoch.

    Attributes:
        num_batches: how many batches are in.
    """

    def __init__(self, device: torch.device) -> None:
        self.num_batches = 0
        self._device = device
        self._num_views = 0
        self._sums: dict[str, Tensor] = {}
        self._z = torch.zeros((), device=device)
        self._distances: list[Tensor] = []
        self._seconds = 0.0
        self._since = time.perf_counter()

    def add(
        self, terms: dict[str, Tensor], *, num_views: int, z: Tensor | None = None, distances: Tensor | None = None
    ) -> None:
        """Add a batch.

        Args:
            terms: mean losses of the batch by name.
            num_views: B, views of images in the batch.
            z: their embeddings, (B, D), if there are any.
            distances: squared distances to the SVDD centre, (B,), if there is one.
        """
        self.num_batches += 1
        self._num_views += num_views
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0) + term.detach() * num_views
        if z is not None:
            self._z = self._z + z.sum(dim=0)
        if distances is not None:
            self._distances.append(distances)

    @property
    def distances(self) -> Tensor | None:
        """All squared distances to the SVDD centre, (N,)."""
        return torch.cat(self._distances) if self._distances else None

    def means(self) -> dict[str, float]:
        """The mean of every term and, where there are embeddings, `spread`: their total variance, 0 of one point."""
        means = {name: total.item() / self._num_views for name, total in self._sums.items()}
        if self._z.dim() == 0:
            return means
        centroid = self._z / self._num_views
        return {**means, "spread": max(0.0, 1 - centroid.square().sum().item())}  # of unit vectors

    @property
    def seconds(self) -> float:
        """Time since the epoch began, without the time between an interruption and the resumption."""
        return self._seconds + time.perf_counter() - self._since

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint in the middle of an epoch."""
        return {
            "num_batches": self.num_batches,
            "num_views": self._num_views,
            "sums": self._sums,
            "z": self._z,
            "distances": self._distances,
            "seconds": self.seconds,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> Meters:
        """Take up an epoch where it was left."""
        tally = cls(device)
        tally.num_batches, tally._num_views = state["num_batches"], state["num_views"]
        tally._sums = {name: total.to(device) for name, total in state["sums"].items()}
        tally._z = state["z"].to(device)
        tally._distances = [distances.to(device) for distances in state["distances"]]
        tally._seconds = state["seconds"]
        return tally
