"""Rows of a patch memory: the nearest ones, their spacing, their whitening, and coresets of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 2**24  # distances to hold at a time
SHRINKAGE = 0.3  # multiple of the mean variance that is added before whitening: small variances are mostly noise
NUM_AXES = 64  # number of principal axes that rows keep: further ones take memory and time, and detect no better


class Neighbourhood(NamedTuple):
    """Settings of the comparison of a grid cell with the rows of a memory.

    Attributes:
        num_nearest: k, number of nearest rows that count.
        share: share of the spacing of these rows that is subtracted: 0 leaves plain distances, 1 compares an image with
            its neighbours as these compare with theirs.
    """

    num_nearest: int = 1
    share: float = 0.0


PLAIN = Neighbourhood()  # the distance to the nearest row


def find_nearest(queries: Tensor, rows: Tensor, k: int, *, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Find the k nearest rows of each query.

    Args:
        queries: (Q, C).
        rows: (M, C).
        k: number of rows, in 1..M, or in 1..M-1 with `own`.
        own: index of each query among the rows, to leave out, (Q,); None if the queries are not among them.

    Returns:
        Distances, exact also where they are small, and row numbers, (Q, k) each.
    """
    found, size = [], max(1, BLOCK // max(len(rows), k * rows.shape[1]))
    for start in range(0, len(queries), size):
        part = queries[start : start + size]
        distances = torch.cdist(part, rows)
        if own is not None:
            distances = distances.scatter(1, own[start : start + size, None], torch.inf)
        index = distances.topk(k, dim=1, largest=False).indices
        found.append(((part[:, None] - rows[index]).norm(dim=2), index))  # cdist is inaccurate for nearly equal rows
    distances, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return distances, index


@torch.no_grad()
def measure_spacing(rows: Tensor, neighbourhood: Neighbourhood) -> Tensor:
    """Measure the mean distance of each row to its nearest other rows in the same grid cell.

    Args:
        rows: (G * G, M, C).
        neighbourhood: number of rows that count, at most M - 1.

    Returns:
        (G * G, M), float32; 0 with a single row, or if the neighbourhood subtracts nothing.
    """
    num_rows = rows.shape[1]
    if num_rows == 1 or neighbourhood.share == 0:
        return torch.zeros(rows.shape[:2], device=rows.device)
    own, k = torch.arange(num_rows, device=rows.device), min(neighbourhood.num_nearest, num_rows - 1)
    return torch.stack([find_nearest(cell, cell, k, own=own)[0].mean(dim=1) for cell in rows.float()])


def whiten(covariance: Tensor, *, least: float) -> Tensor:
    """Compute a matrix that whitens along the principal axes of a covariance, with shrinkage.

    Args:
        covariance: (C, C).
        least: smallest shrinkage, a variance due to rounding alone.

    Returns:
        (C, A), of the same type; A is C, or `NUM_AXES` if that is smaller.
    """
    # on the CPU: MPS has no float64, and of a matrix this small a GPU is no faster
    variances, directions = torch.linalg.eigh(covariance.cpu().double())
    floor = max(SHRINKAGE * float(variances.mean()), least, torch.finfo(covariance.dtype).tiny)
    whitening: Tensor = (directions * (variances.clamp(min=0) + floor).rsqrt())[:, -NUM_AXES:]
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
