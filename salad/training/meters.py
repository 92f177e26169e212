"""Meters of an epoch: sums over its batches, which a checkpoint can save and restore."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor


class Meters:
    """Sums over the batches of an epoch.

    Attributes:
        num_batches: number of batches added.
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
            num_views: B, number of views in the batch.
            z: embeddings of the views, (B, D); None without embeddings.
            distances: squared distances to the SVDD centre, (B,); None without a centre.
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
        """Squared distances of all views to the SVDD centre, (N,); None without a centre."""
        return torch.cat(self._distances) if self._distances else None

    def means(self) -> dict[str, float]:
        """Compute the mean of every term and, with embeddings, `spread`: their total variance, 0 for a single point."""
        means = {name: total.item() / self._num_views for name, total in self._sums.items()}
        if self._z.dim() == 0:
            return means
        centroid = self._z / self._num_views
        return {**means, "spread": max(0.0, 1 - centroid.square().sum().item())}  # for unit vectors

    @property
    def seconds(self) -> float:
        """Duration of the epoch so far, without the time between an interruption and its resumption."""
        return self._seconds + time.perf_counter() - self._since

    def state_dict(self) -> dict[str, Any]:
        """Collect the sums for a checkpoint in the middle of an epoch."""
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
        """Restore the meters of an interrupted epoch from `state_dict`.

        Raises:
            ValueError: a sum cannot be one.
        """
        _check(state)
        meters = cls(device)
        meters.num_batches, meters._num_views = state["num_batches"], state["num_views"]
        meters._sums = {name: total.to(device) for name, total in state["sums"].items()}
        meters._z = state["z"].to(device)
        meters._distances = [distances.to(device) for distances in state["distances"]]
        meters._seconds = state["seconds"]
        return meters


def _check(state: dict[str, Any]) -> None:
    """Raise ValueError if counts, sums, embeddings or distances cannot be those of any epoch."""
    counts = (state["num_batches"], state["num_views"])
    is_fit = {
        "counts": all(type(count) is int for count in counts) and 0 <= counts[0] <= counts[1],
        "sums": all(isinstance(name, str) and _is_float(total, 0) for name, total in state["sums"].items()),
        "embeddings": _is_float(state["z"], 0, 1),
        "distances": all(_is_float(values, 1) for values in state["distances"]),
        "seconds": isinstance(state["seconds"], float) and 0 <= state["seconds"] < math.inf,
    }
    if unfit := [name for name, fits in is_fit.items() if not fits]:
        raise ValueError(f"the {unfit[0]} of its epoch")


def _is_float(value: object, *dims: int) -> bool:
    """Check if a value is a tensor of floats with one of these numbers of dimensions."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() in dims
