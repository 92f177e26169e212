"""Local features of normal images, place by place: where does a new image differ from all of them?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**24  # distances that are held at a time


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
    def build(cls, batches: Iterable[Tensor], *, grid: int, max_rows: int) -> LocalMemory:
        """From the local features of normal images.

        Args:
            batches: (B, C, H, W) each, N images together.
            grid: G, places along a side.
            max_rows: M at most; of more images, those are kept at each place that cover all of them best.
        """
        cells = torch.cat([F.adaptive_avg_pool2d(batch, grid).flatten(2).permute(2, 0, 1) for batch in batches], dim=1)
        std, mean = torch.std_mean(cells.float(), dim=(0, 1))
        std = std.clamp(min=1e-6)
        rows = ((cells - mean) / std).half()
        if rows.shape[1] > max_rows:
            rows = torch.stack([place[choose_cover(place.float(), max_rows)] for place in rows])
        return cls(rows=rows, mean=mean, std=std)

    @property
    def grid(self) -> int:
        """Places along a side."""
        return round(len(self.rows) ** 0.5)

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
        cells = F.adaptive_avg_pool2d(features.float(), self.grid).flatten(2).permute(2, 0, 1)
        queries = (cells - self.mean) / self.std
        size = max(1, BLOCK // self.rows.shape[1])
        nearest = [
            torch.cat([torch.cdist(part, rows).amin(dim=1) for part in place.split(size)])
            for place, rows in zip(queries, (rows.float() for rows in self.rows), strict=True)
        ]
        return torch.stack(nearest, dim=1).view(-1, self.grid, self.grid)

    def scores(self, features: Tensor) -> Tensor:
        """Mean distance over all places, (B,); larger is more anomalous."""
        return self.distances(features).mean(dim=(1, 2))

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
