"""Local features of normal images, place by place: where does a new image differ from all of them?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**24  # distances that are held at a time
EXACT = "donot_use_mm_for_euclid_dist"  # for distances that are shown
SHRINKAGE = 0.3  # added to variances before whitening, in their mean: directions that hardly vary are mostly noise
LEAST_SHARE = 1e-6  # of a standard deviation in the largest mean: less is rounding
LEAST_SEEN = 1e-6  # of a place: one of which nothing is seen counts as little, and not as 0 / 0


class PatchMaps(NamedTuple):
    """Local features of images, and where there is something to see.

    Attributes:
        features: (B, C, H, W).
        seen: 1 where a pixel shows the image and 0 where it repeats its border, (B, 1, S, S); None where all show it.
    """

    features: Tensor
    seen: Tensor | None = None


class Cells(NamedTuple):
    """Local features averaged over the cells of a coarse grid.

    Attributes:
        features: over what there is to see, (B, G * G, C), float32.
        seen: how much that is, (B, G * G), in (0, 1].
    """

    features: Tensor
    seen: Tensor


def pool_cells(maps: PatchMaps, grid: int) -> Cells:
    """Average over G x G cells; of maps with fewer rows or columns, cells share some."""
    features = maps.features.float()
    if maps.seen is None:
        cells = F.adaptive_avg_pool2d(features, grid).flatten(2).mT
        return Cells(cells, torch.ones_like(cells[:, :, 0]))
    seen = F.adaptive_avg_pool2d(maps.seen, (features.shape[-2], features.shape[-1])).clamp(min=LEAST_SEEN)
    share = F.adaptive_avg_pool2d(seen, grid)
    return Cells((F.adaptive_avg_pool2d(features * seen, grid) / share).flatten(2).mT, share.flatten(1))


@dataclass(frozen=True, kw_only=True)
class PatchMemory:
    """For each place of a coarse grid, what normal images look like there.

    Features are averaged over the cells of the grid and whitened: distances are Mahalanobis distances, by the
    covariance of normal images about the mean of their place, which all places share (Defard et al., PaDiM, ICPR 2020,
    and Roth et al., PatchCore, CVPR 2022, keep places apart, or rows without places, in their own ways).

    Attributes:
        rows: (G * G, M, C), float16.
        mean: of each place, (G * G, C), float32.
        whitening: symmetric, (C, C), float32.
    """

    rows: Tensor
    mean: Tensor
    whitening: Tensor

    @classmethod
    def build(cls, cells: Tensor, *, max_rows: int) -> PatchMemory:
        """From the cells of normal images.

        Args:
            cells: features of `pool_cells`, (N, G * G, C); centred in place.
            max_rows: M at most; of more images, those are kept at each place that cover all of them best.
        """
        mean = cells.mean(dim=0)
        rounding = (LEAST_SHARE * float(mean.abs().max())) ** 2
        places = cells.sub_(mean).transpose(0, 1)
        covariance = torch.stack([place.T @ place for place in places]).sum(dim=0) / cells[:, :, 0].numel()
        whitening = whiten(covariance, least=rounding)
        rows = torch.stack([(place @ whitening).half() for place in places])
        if rows.shape[1] > max_rows:
            rows = torch.stack([place[choose_coreset(place.float(), max_rows)] for place in rows])
        return cls(rows=rows, mean=mean, whitening=whitening)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> PatchMemory:
        """What `state_dict` gave.

        Raises:
            ValueError: its tensors do not fit each other.
        """
        rows, mean, whitening = state["rows"], state["mean"], state["whitening"]
        shapes = rows.dim() == 3 and 0 not in rows.shape and mean.shape == (len(rows), rows.shape[2])
        if not shapes or whitening.shape != 2 * rows.shape[2:] or math.isqrt(len(rows)) ** 2 != len(rows):
            raise ValueError("a local memory whose shapes fit each other")
        return cls(rows=rows, mean=mean, whitening=whitening)

    @property
    def grid(self) -> int:
        """Places along a side."""
        return math.isqrt(len(self.rows))

    @property
    def num_bytes(self) -> int:
        """Bytes that it takes."""
        return sum(one.numel() * one.element_size() for one in (self.rows, self.mean, self.whitening))

    @torch.no_grad()
    def distances(self, maps: PatchMaps) -> Tensor:
        """Of each place of each image, the distance to the nearest normal image there, (B, G, G), at least 0."""
        return self._distances(self._whitened(maps).features).view(-1, self.grid, self.grid)

    def scores(self, maps: PatchMaps) -> Tensor:
        """Mean distance over all places, by how much of each is seen, (B,); larger is more anomalous."""
        cells = self._whitened(maps)
        return weigh(self._distances(cells.features), cells.seen)

    @torch.no_grad()
    def _distances(self, queries: Tensor) -> Tensor:
        """(B, G * G, C) to (B, G * G)."""
        size = max(1, BLOCK // self.rows.shape[1])
        found = []
        for place, half in zip(queries.transpose(0, 1), self.rows, strict=True):
            rows = half.float()
            nearest = torch.cat([torch.cdist(part, rows).argmin(dim=1) for part in place.split(size)])
            found.append((place - rows[nearest]).norm(dim=1))  # cdist itself is off by much where they are the same
        return torch.stack(found, dim=1)

    @torch.no_grad()
    def image_distances(self, maps: PatchMaps) -> Tensor:
        """The score of each image, were one normal image the only one, for all M of these, (B, M).

        Where there were more images than rows, the rows at a place are of other images than those at the next.
        """
        cells = self._whitened(maps)
        pairs = zip(cells.features.transpose(0, 1), self.rows, strict=True)
        distances = [torch.cdist(place, half.float(), compute_mode=EXACT) for place, half in pairs]
        return weigh(torch.stack(distances, dim=2), cells.seen[:, None])

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

    def _whitened(self, maps: PatchMaps) -> Cells:
        cells = pool_cells(maps, self.grid)
        return Cells((cells.features - self.mean) @ self.whitening, cells.seen)

    @staticmethod
    def bytes_for(num_images: int, *, grid: int, num_channels: int, max_rows: int) -> int:
        """Bytes that one takes, before it is built."""
        return (2 * grid**2 * min(num_images, max_rows) + 4 * grid**2 + 4 * num_channels) * num_channels

    def to(self, device: torch.device) -> PatchMemory:
        """The same memory on a device."""
        return PatchMemory(**{name: one.to(device) for name, one in self.state_dict().items()})

    def state_dict(self) -> dict[str, Tensor]:
        """As a checkpoint keeps it."""
        return {"rows": self.rows, "mean": self.mean, "whitening": self.whitening}


def weigh(distances: Tensor, seen: Tensor) -> Tensor:
    """The mean of distances (..., G * G) by how much of each place is seen, (..., G * G): (...)."""
    return (distances * seen).sum(dim=-1) / seen.sum(dim=-1)


def whiten(covariance: Tensor, *, least: float) -> Tensor:
    """The symmetric matrix that makes variances about 1 and covariances 0, with shrinkage.

    Args:
        covariance: (C, C).
        least: a variance that is rounding.

    Returns:
        (C, C), of the same type.
    """
    variances, directions = torch.linalg.eigh(covariance.double())
    floor = max(SHRINKAGE * float(variances.mean()), least, torch.finfo(covariance.dtype).tiny)
    scales = (variances.clamp(min=0) + floor).rsqrt()
    whitening: Tensor = (directions * scales) @ directions.T
    return whitening.to(covariance.dtype)


def choose_coreset(rows: Tensor, count: int) -> Tensor:
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
