"""Local features of normal images, place by place: where does a new image differ from all of them?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**24  # distances that are held at a time
EXACT = "donot_use_mm_for_euclid_dist"  # for distances that are shown
LEAST_STD = 0.01  # of a channel, in means over channels: one that hardly varies must not outweigh all others
LEAST_SHARE = 1e-6  # of it in the largest mean: less is rounding


def pool_cells(features: Tensor, grid: int) -> Tensor:
    """Local features averaged over the cells of a coarse grid.

    Args:
        features: (B, C, H, W); with fewer than `grid` rows or columns, cells share some.
        grid: G, cells along a side.

    Returns:
        (B, G * G, C), float32.
    """
    return F.adaptive_avg_pool2d(features.float(), grid).flatten(2).mT


@dataclass(frozen=True, kw_only=True)
class LocalMemory:
    """For each place of a coarse grid, what normal images look like there.

    Features are averaged over the cells of the grid and each channel is standardised with its mean and standard
    deviation over normal images and places (Defard et al., PaDiM, ICPR 2020, and Roth et al., PatchCore, CVPR 2022,
    keep places apart, or rows without places, in their own ways).

    Attributes:
        rows: (G * G, M, C), float16.
        mean: of each channel, (C,), float32.
        std: its standard deviation, (C,), float32.
    """

    rows: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def build(cls, cells: Tensor, *, max_rows: int) -> LocalMemory:
        """From the cells of normal images.

        Args:
            cells: of `pool_cells`, (N, G * G, C); standardised in place.
            max_rows: M at most; of more images, those are kept at each place that cover all of them best.
        """
        std, mean = torch.std_mean(cells, dim=(0, 1), correction=0)
        least = max(LEAST_STD * float(std.mean()), LEAST_SHARE * float(mean.abs().max()), torch.finfo(std.dtype).tiny)
        std = std.clamp(min=least)
        rows = cells.sub_(mean).div_(std).half().transpose(0, 1)
        if rows.shape[1] > max_rows:
            rows = torch.stack([place[choose_cover(place.float(), max_rows)] for place in rows])
        return cls(rows=rows.contiguous(), mean=mean, std=std)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> LocalMemory:
        """What `state_dict` gave.

        Raises:
            ValueError: its tensors do not fit each other.
        """
        rows, mean, std = state["rows"], state["mean"], state["std"]
        shapes = rows.dim() == 3 and 0 not in rows.shape and mean.shape == std.shape == rows.shape[2:]
        if not shapes or math.isqrt(len(rows)) ** 2 != len(rows):
            raise ValueError("a local memory whose shapes fit each other")
        return cls(rows=rows, mean=mean, std=std)

    @property
    def grid(self) -> int:
        """Places along a side."""
        return math.isqrt(len(self.rows))

    @property
    def num_bytes(self) -> int:
        """Bytes that it takes."""
        return sum(one.numel() * one.element_size() for one in (self.rows, self.mean, self.std))

    @torch.no_grad()
    def distances(self, features: Tensor) -> Tensor:
        """Of each place of each image, the distance to the nearest normal image there.

        Args:
            features: (B, C, H, W).

        Returns:
            (B, G, G), at least 0.
        """
        queries = self._standardized(features)
        size = max(1, BLOCK // self.rows.shape[1])
        found = []
        for place, half in zip(queries.transpose(0, 1), self.rows, strict=True):
            rows = half.float()
            nearest = torch.cat([torch.cdist(part, rows).argmin(dim=1) for part in place.split(size)])
            found.append((place - rows[nearest]).norm(dim=1))  # cdist itself is off by much where they are the same
        return torch.stack(found, dim=1).view(-1, self.grid, self.grid)

    def scores(self, features: Tensor) -> Tensor:
        """Mean distance over all places, (B,); larger is more anomalous."""
        return self.distances(features).mean(dim=(1, 2))

    @torch.no_grad()
    def image_distances(self, features: Tensor) -> Tensor:
        """Mean distance over all places to each normal image, (B, M): the score, were that one the only normal image.

        Where there were more images than rows, the rows at a place are of other images than those at the next.
        """
        pairs = zip(self._standardized(features).transpose(0, 1), self.rows, strict=True)
        distances = [torch.cdist(place, half.float(), compute_mode=EXACT) for place, half in pairs]
        return torch.stack(distances).mean(dim=0)

    @torch.no_grad()
    def own_distances(self, *, most: int) -> Tensor:
        """At each place, of some rows the distance to the nearest other one; there must be two at least.

        Args:
            most: rows to take, evenly.

        Returns:
            (n, G, G).
        """
        num_rows = self.rows.shape[1]
        some = torch.linspace(0, num_rows - 1, min(most, num_rows), device=self.rows.device).round().long()
        found = []
        for half in self.rows:
            distances = torch.cdist(half[some].float(), half.float(), compute_mode=EXACT)
            found.append(distances.scatter(1, some[:, None], torch.inf).amin(dim=1))
        return torch.stack(found, dim=1).view(-1, self.grid, self.grid)

    def _standardized(self, features: Tensor) -> Tensor:
        return (pool_cells(features, self.grid) - self.mean) / self.std

    @staticmethod
    def bytes_for(num_images: int, *, grid: int, num_channels: int, max_rows: int) -> int:
        """Bytes that one takes, before it is built."""
        return 2 * grid**2 * min(num_images, max_rows) * num_channels + 8 * num_channels

    def to(self, device: torch.device) -> LocalMemory:
        """The same memory on a device."""
        return LocalMemory(rows=self.rows.to(device), mean=self.mean.to(device), std=self.std.to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """As a checkpoint keeps it."""
        return {"rows": self.rows, "mean": self.mean, "std": self.std}


def choose_cover(rows: Tensor, count: int) -> Tensor:
    """Rows from which no other row is far: greedily, always the farthest (Gonzalez, 1985; the k-centre problem).

    Args:
        rows: (N, C).
        count: how many to choose, in 1..N.

    Returns:
        Row numbers, (count,); the first is the nearest to the mean of all.
    """
    start = (rows - rows.mean(dim=0)).square().sum(dim=1).argmin()
    chosen = rows.new_empty(count, dtype=torch.long)
    distances = rows.new_full((len(rows),), torch.inf)
    for i in range(count):
        chosen[i] = start if i == 0 else distances.argmax()
        distances = distances.minimum((rows - rows[chosen[i]]).square().sum(dim=1))
    return chosen
