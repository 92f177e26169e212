"""Patch memory: compare patch features of an image, grid cell by grid cell, with those of normal images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**24  # distances to hold at a time
EXACT = "donot_use_mm_for_euclid_dist"  # mode of torch.cdist for distances that are shown
SHRINKAGE = 0.3  # multiple of the mean variance that is added before whitening: small variances are mostly noise
LEAST_SHARE = 1e-6  # smallest standard deviation as a share of the largest mean: a smaller one is rounding
LEAST_SEEN = 1e-6  # smallest seen share of a grid cell: avoids 0 / 0 in a cell outside the image


class PatchMaps(NamedTuple):
    """Patch features of images, and the pixels that lie inside the images.

    Attributes:
        features: (B, C, H, W).
        seen: 1 at pixels inside the image and 0 at pixels that repeat its border, (B, 1, S, S); None if all pixels
            lie inside.
    """

    features: Tensor
    seen: Tensor | None = None


class Cells(NamedTuple):
    """Patch features averaged over the cells of a G x G grid.

    Attributes:
        features: mean features over the seen part of each cell, (B, G * G, C), float32.
        seen: share of each cell that lies inside the image, (B, G * G), in (0, 1].
    """

    features: Tensor
    seen: Tensor


def pool_cells(maps: PatchMaps, grid: int) -> Cells:
    """Average patch features over the cells of a grid.

    Args:
        maps: patch features, (B, C, H, W); with H or W below G, neighbouring cells share rows or columns.
        grid: G, the number of cells along a side.
    """
    features = maps.features.float()
    if maps.seen is None:
        cells = F.adaptive_avg_pool2d(features, grid).flatten(2).mT
        return Cells(cells, torch.ones_like(cells[:, :, 0]))
    seen = F.adaptive_avg_pool2d(maps.seen, (features.shape[-2], features.shape[-1])).clamp(min=LEAST_SEEN)
    share = F.adaptive_avg_pool2d(seen, grid)
    return Cells((F.adaptive_avg_pool2d(features * seen, grid) / share).flatten(2).mT, share.flatten(1))


@dataclass(frozen=True, kw_only=True)
class PatchMemory:
    """Patch features of normal images, for each cell of a G x G grid.

    Features are averaged over each grid cell and whitened, so that distances are Mahalanobis distances. Each cell has
    its own mean; all cells share one covariance, that of normal images about the cell means. In contrast, PaDiM
    (Defard et al., ICPR 2020) has one covariance a position, and PatchCore (Roth et al., CVPR 2022) one memory for
    all positions.

    Attributes:
        rows: whitened features of M normal images in each cell, (G * G, M, D), float16.
        mean: mean features of each cell, (G * G, C), float32.
        whitening: matrix, (C, D), float32; symmetric, with D = C, unless the memory is `reduced`.
    """

    rows: Tensor
    mean: Tensor
    whitening: Tensor

    @classmethod
    def build(cls, cells: Tensor, *, max_rows: int) -> PatchMemory:
        """Build a memory from the grid cells of normal images.

        Args:
            cells: features from `pool_cells`, (N, G * G, C); they are centred in place.
            max_rows: largest M; of more images, each cell keeps a coreset of this size.
        """
        mean = cells.mean(dim=0)
        rounding = (LEAST_SHARE * float(mean.abs().max())) ** 2
        centred = cells.sub_(mean).transpose(0, 1)
        covariance = torch.stack([cell.T @ cell for cell in centred]).sum(dim=0) / cells[:, :, 0].numel()
        whitening = whiten(covariance, least=rounding)
        rows = torch.stack([(cell @ whitening).half() for cell in centred])
        if rows.shape[1] > max_rows:
            rows = torch.stack([cell[choose_coreset(cell.float(), max_rows)] for cell in rows])
        return cls(rows=rows, mean=mean, whitening=whitening)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> PatchMemory:
        """Rebuild a memory from `state_dict`.

        Raises:
            ValueError: the shapes of the tensors do not match.
        """
        rows, mean, whitening = state["rows"], state["mean"], state["whitening"]
        shapes = rows.dim() == 3 and 0 not in rows.shape and whitening.shape == (mean.shape[1], rows.shape[2])
        if not shapes or len(mean) != len(rows) or math.isqrt(len(rows)) ** 2 != len(rows):
            raise ValueError("a patch memory with matching shapes")  # `salad.checkpoint` adds "is missing or unfit"
        return cls(rows=rows, mean=mean, whitening=whitening)

    def reduced(self, *, num_rows: int, num_axes: int) -> PatchMemory:
        """Keep the first rows of each cell, and the axes along which normal images differ most."""
        _, axes = torch.linalg.eigh(
            self.whitening.cpu().double()
        )  # the smallest factor is that of the largest variance
        chosen = axes[:, :num_axes].float().to(self.rows.device)
        rows = (self.rows[:, :num_rows].float() @ chosen).half()
        return PatchMemory(rows=rows, mean=self.mean, whitening=self.whitening @ chosen)

    @property
    def grid(self) -> int:
        """Number of grid cells along a side."""
        return math.isqrt(len(self.rows))

    @property
    def num_bytes(self) -> int:
        """Size of the memory in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.rows, self.mean, self.whitening))

    @torch.no_grad()
    def distances(self, maps: PatchMaps) -> Tensor:
        """Distance of each grid cell to the nearest normal image in the same cell, (B, G, G), at least 0."""
        return self._distances(self._whitened(maps).features).view(-1, self.grid, self.grid)

    def scores(self, maps: PatchMaps) -> Tensor:
        """Mean distance over all grid cells, weighted by their seen shares, (B,); larger is more anomalous."""
        cells = self._whitened(maps)
        return weigh(self._distances(cells.features), cells.seen)

    @torch.no_grad()
    def _distances(self, queries: Tensor) -> Tensor:
        """Compute the distances of whitened cells, (B, G * G, C), to their nearest rows, (B, G * G)."""
        size = max(1, BLOCK // self.rows.shape[1])
        distances = []
        for cell, half in zip(queries.transpose(0, 1), self.rows, strict=True):
            rows = half.float()
            nearest = torch.cat([torch.cdist(part, rows).argmin(dim=1) for part in cell.split(size)])
            distances.append((cell - rows[nearest]).norm(dim=1))  # cdist is inaccurate for nearly equal features
        return torch.stack(distances, dim=1)

    @torch.no_grad()
    def image_distances(self, maps: PatchMaps) -> Tensor:
        """Score each image against each of the M normal images alone, (B, M).

        This holds only if the memory keeps all normal images. In a coreset, row i belongs to different images in
        different cells.
        """
        cells = self._whitened(maps)
        pairs = zip(cells.features.transpose(0, 1), self.rows, strict=True)
        distances = [torch.cdist(cell, half.float(), compute_mode=EXACT) for cell, half in pairs]
        return weigh(torch.stack(distances, dim=2), cells.seen[:, None])

    @torch.no_grad()
    def own_distances(self, *, most: int) -> Tensor:
        """Distance of rows of the memory to the nearest other row of the same grid cell.

        Args:
            most: largest number of rows to take in each cell, evenly spaced; the memory needs two rows a cell.

        Returns:
            (min(most, M), G, G).
        """
        num_rows = self.rows.shape[1]
        index = torch.linspace(0, num_rows - 1, min(most, num_rows), device=self.rows.device).round().long()
        nearest = []
        for half in self.rows:
            distances = torch.cdist(half[index].float(), half.float(), compute_mode=EXACT)
            nearest.append(distances.scatter(1, index[:, None], torch.inf).amin(dim=1))
        return torch.stack(nearest, dim=1).view(-1, self.grid, self.grid)

    def _whitened(self, maps: PatchMaps) -> Cells:
        """Average patch features over the grid cells and whiten them."""
        cells = pool_cells(maps, self.grid)
        return Cells((cells.features - self.mean) @ self.whitening, cells.seen)

    @staticmethod
    def bytes_for(num_images: int, *, grid: int, num_channels: int, max_rows: int) -> int:
        """Compute the size of a memory in bytes, before it is built."""
        return (2 * grid**2 * min(num_images, max_rows) + 4 * grid**2 + 4 * num_channels) * num_channels

    def to(self, device: torch.device) -> PatchMemory:
        """Move the memory to a device."""
        return PatchMemory(**{name: tensor.to(device) for name, tensor in self.state_dict().items()})

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of the memory by name, for a checkpoint."""
        return {"rows": self.rows, "mean": self.mean, "whitening": self.whitening}


def weigh(distances: Tensor, seen: Tensor) -> Tensor:
    """Mean of the distances of grid cells, weighted by their seen shares: (..., G * G) each to (...)."""
    return (distances * seen).sum(dim=-1) / seen.sum(dim=-1)


def whiten(covariance: Tensor, *, least: float) -> Tensor:
    """Compute the symmetric whitening matrix of a covariance, with shrinkage.

    Args:
        covariance: (C, C).
        least: smallest shrinkage, a variance due to rounding alone.

    Returns:
        (C, C), of the same type.
    """
    # on the CPU: MPS has no float64, and of a matrix this small a GPU is no faster
    variances, directions = torch.linalg.eigh(covariance.cpu().double())
    floor = max(SHRINKAGE * float(variances.mean()), least, torch.finfo(covariance.dtype).tiny)
    scales = (variances.clamp(min=0) + floor).rsqrt()
    whitening: Tensor = (directions * scales) @ directions.T
    return whitening.to(covariance.dtype).to(covariance.device)


def choose_coreset(rows: Tensor, count: int) -> Tensor:
    """Choose a coreset greedily: each next row is the farthest from those chosen (Gonzalez, 1985; k-centre problem).

    Args:
        rows: (N, C).
        count: size of the coreset, in 1..N.

    Returns:
        Row numbers, (count,); the first row is the nearest to the mean of all.
    """
    start = (rows - rows.mean(dim=0)).square().sum(dim=1).argmin()
    chosen = rows.new_empty(count, dtype=torch.long)
    distances = rows.new_full((len(rows),), torch.inf)
    for i in range(count):
        chosen[i] = start if i == 0 else distances.argmax()
        # an index of one entry, because a scalar makes the host wait for a GPU
        distances = distances.minimum((rows - rows[chosen[i : i + 1]]).square().sum(dim=1))
    return chosen
