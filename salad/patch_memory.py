"""Patch memory: compare patch features of an image, grid cell by grid cell, with those of normal images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from salad.patch_rows import NUM_AXES, PLAIN, Neighbourhood, choose_coreset, find_nearest, measure_spacing, whiten

EXACT = "donot_use_mm_for_euclid_dist"  # mode of torch.cdist for distances that are shown
LEAST_SHARE = 1e-6  # smallest standard deviation as a share of the largest mean: a smaller one is rounding
SEEN_POWER = 4.0  # a cell's weight is this power of its seen share: features beside a repeated border are unusual
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

    Features are averaged over each grid cell and whitened along their principal axes, so that distances are Mahalanobis
    distances. Each cell has its own mean; all cells share one covariance, that of normal images about the cell means,
    and its axes. In contrast, PaDiM (Defard et al., ICPR 2020) has one covariance a position, and PatchCore (Roth et
    al., CVPR 2022) one memory for all positions.

    A distance to a row counts less where normal images lie far apart, as in the local outlier factor (Breunig et al.,
    SIGMOD 2000): a share of the row's spacing, its mean distance to its own nearest rows, is subtracted. This keeps
    rare kinds of normal images, of which the memory holds few, from looking abnormal.

    Attributes:
        rows: whitened features of M normal images in each cell along A axes, (G * G, M, A), float16.
        mean: mean features of each cell, (G * G, C), float32.
        whitening: matrix from centred features to whitened ones, (C, A), float32.
        spacing: mean distance of each row to its nearest other rows, (G * G, M), float32; 0 where it does not count.
        neighbourhood: number of nearest rows that a distance is the mean of, and the share of their spacing that is
            subtracted.
        seen_power: power of the seen share of a grid cell that is its weight; 1 in older files.
    """

    rows: Tensor
    mean: Tensor
    whitening: Tensor
    spacing: Tensor
    neighbourhood: Neighbourhood = PLAIN
    seen_power: float = SEEN_POWER

    @classmethod
    def build(cls, cells: Tensor, *, max_rows: int, neighbourhood: Neighbourhood = PLAIN) -> PatchMemory:
        """Build a memory from the grid cells of normal images.

        Args:
            cells: features from `pool_cells`, (N, G * G, C); they are centred in place.
            max_rows: largest M; of more images, each cell keeps a coreset of this size.
            neighbourhood: number of rows that count, and the share of their spacing that is subtracted.
        """
        mean = cells.mean(dim=0)
        rounding = (LEAST_SHARE * float(mean.abs().max())) ** 2
        centred = cells.sub_(mean).transpose(0, 1)
        covariance = torch.stack([cell.T @ cell for cell in centred]).sum(dim=0) / cells[:, :, 0].numel()
        whitening = whiten(covariance, least=rounding)
        rows = torch.stack([(cell @ whitening).half() for cell in centred])
        if rows.shape[1] > max_rows:
            rows = torch.stack([cell[choose_coreset(cell.float(), max_rows)] for cell in rows])
        spacing = measure_spacing(rows, neighbourhood)
        return cls(rows=rows, mean=mean, whitening=whitening, spacing=spacing, neighbourhood=neighbourhood)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> PatchMemory:
        """Rebuild a memory from `state_dict`.

        Raises:
            ValueError: the shapes of the tensors do not match.
        """
        rows, mean, whitening = state["rows"], state["mean"], state["whitening"]
        spacing = state.get("spacing", torch.zeros(rows.shape[:2]))  # older files compare with the nearest row alone
        num_nearest, share = state.get("num_nearest", torch.tensor(1)), state.get("share", torch.tensor(0.0))
        seen_power = float(state.get("seen_power", torch.tensor(1.0)))
        shapes = rows.dim() == 3 and 0 not in rows.shape and whitening.shape == (mean.shape[-1], rows.shape[2])
        shapes = shapes and spacing.shape == rows.shape[:2] and mean.shape == (len(rows), len(whitening))
        if not shapes or math.isqrt(len(rows)) ** 2 != len(rows):
            raise ValueError("a patch memory with matching shapes")  # `salad.checkpoint` adds "is missing or unfit"
        neighbourhood = Neighbourhood(int(num_nearest), float(share))
        return cls(
            rows=rows,
            mean=mean,
            whitening=whitening,
            spacing=spacing,
            neighbourhood=neighbourhood,
            seen_power=seen_power,
        )

    @torch.no_grad()
    def rows_of(self, maps: PatchMaps) -> Tensor:
        """Compute rows of images, as `rows` holds them, from their patch features: (G * G, B, A), float16."""
        return self._whitened(maps).features.transpose(0, 1).half()

    def extended(self, rows: Tensor, *, max_rows: int) -> PatchMemory:
        """Copy the memory with further rows at its end, whitened by its own mean and covariance.

        Args:
            rows: rows of N images, see `rows_of`; N is at most `max_rows`.
            max_rows: largest M; the earlier rows give way to a coreset of them, and the further ones all stay.
        """
        num_kept = max_rows - rows.shape[1]
        earlier = self.rows
        if earlier.shape[1] > num_kept:
            earlier = torch.stack([cell[choose_coreset(cell.float(), num_kept)] for cell in earlier])
        rows = torch.cat([earlier, rows.to(earlier.device)], dim=1)
        return replace(self, rows=rows, spacing=measure_spacing(rows, self.neighbourhood))

    def without(self, row: int) -> PatchMemory:
        """Copy the memory without a row, given by its index in each cell; a negative one counts from the end.

        The spacing of the other rows is left as it is, because measuring it anew would take M comparisons of M rows.
        """
        keeps = torch.ones(self.rows.shape[1], dtype=torch.bool, device=self.rows.device)
        keeps[row] = False
        return replace(self, rows=self.rows[:, keeps], spacing=self.spacing[:, keeps])

    def plain(self) -> PatchMemory:
        """Copy the memory for distances to the nearest row alone, of which nothing is subtracted."""
        return replace(self, neighbourhood=PLAIN)

    def reduced(self, *, num_rows: int, num_axes: int) -> PatchMemory:
        """Keep the first rows of each cell, and the axes along which normal images differ most."""
        return replace(  # copies, because a view would be saved whole
            self,
            rows=self.rows[:, :num_rows, -num_axes:].clone(),
            whitening=self.whitening[:, -num_axes:].clone(),
            spacing=self.spacing[:, :num_rows].clone(),
        )

    @property
    def grid(self) -> int:
        """Number of grid cells along a side."""
        return math.isqrt(len(self.rows))

    @property
    def num_nearest(self) -> int:
        """Number of nearest rows that count: k, or fewer in a memory of fewer rows."""
        return min(self.neighbourhood.num_nearest, max(1, self.rows.shape[1] - 1))

    @property
    def num_bytes(self) -> int:
        """Size of the memory in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state_dict().values())

    @torch.no_grad()
    def distances(self, maps: PatchMaps) -> Tensor:
        """Distance of each grid cell to the nearest normal images in the same cell, less their spacing, (B, G, G)."""
        return self.row_distances(self._whitened(maps).features).view(-1, self.grid, self.grid)

    def scores(self, maps: PatchMaps) -> Tensor:
        """Mean distance over all grid cells, weighted by what is seen of them, (B,); larger is more anomalous."""
        cells = self._whitened(maps)
        return weigh(self.row_distances(cells.features), cells.seen, self.seen_power)

    @torch.no_grad()
    def row_distances(self, queries: Tensor) -> Tensor:
        """Distance of whitened cells, (B, G * G, A), to their nearest rows, less their spacing, (B, G * G)."""
        distances = []
        for cell, rows, spacing in zip(queries.transpose(0, 1), self.rows, self.spacing, strict=True):
            far, index = find_nearest(cell, rows.float(), self.num_nearest)
            distances.append((far - self.neighbourhood.share * spacing[index]).mean(dim=1))
        return torch.stack(distances, dim=1)

    @torch.no_grad()
    def image_distances(self, maps: PatchMaps) -> Tensor:
        """Score each image against each of the M normal images alone, (B, M).

        Spacing is not subtracted. This holds only if the memory keeps all normal images: in a coreset, row i belongs to
        different images in different cells.
        """
        cells = self._whitened(maps)
        pairs = zip(cells.features.transpose(0, 1), self.rows, strict=True)
        distances = [torch.cdist(cell, half.float(), compute_mode=EXACT) for cell, half in pairs]
        return weigh(torch.stack(distances, dim=2), cells.seen[:, None], self.seen_power)

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
        nearest = [find_nearest(cell[index], cell, 1, own=index)[0][:, 0] for cell in self.rows.float()]
        return torch.stack(nearest, dim=1).view(-1, self.grid, self.grid)

    def _whitened(self, maps: PatchMaps) -> Cells:
        """Average patch features over the grid cells and whiten them."""
        cells = pool_cells(maps, self.grid)
        return Cells((cells.features - self.mean) @ self.whitening, cells.seen)

    @staticmethod
    def bytes_for(num_images: int, *, grid: int, num_channels: int, max_rows: int) -> int:
        """Compute the size of a memory in bytes, before it is built."""
        num_rows, num_axes = min(num_images, max_rows), min(NUM_AXES, num_channels)
        num_means, num_weights = grid**2 * num_channels, num_channels * num_axes
        return 2 * grid**2 * num_rows * (num_axes + 2) + 4 * (num_means + num_weights) + 16

    def to(self, device: torch.device) -> PatchMemory:
        """Move the memory to a device."""
        return replace(
            self,
            rows=self.rows.to(device),
            mean=self.mean.to(device),
            whitening=self.whitening.to(device),
            spacing=self.spacing.to(device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Collect the tensors that distances are computed with, by name."""
        return {"rows": self.rows, "mean": self.mean, "whitening": self.whitening, "spacing": self.spacing}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of the memory by name, for a checkpoint."""
        settings = {**self.neighbourhood._asdict(), "seen_power": self.seen_power}
        return {**self.tensors(), **{name: torch.tensor(value) for name, value in settings.items()}}


def weigh(distances: Tensor, seen: Tensor, power: float) -> Tensor:
    """Mean of the distances of grid cells, weighted by a power of their seen shares: (..., G * G) each to (...)."""
    weights = seen**power
    return (distances * weights).sum(dim=-1) / weights.sum(dim=-1)
