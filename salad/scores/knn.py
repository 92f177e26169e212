"""Mean angle of an embedding to the nearest normal rows of the memory bank (SALAD, section 2.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from salad.errors import InputError
from salad.nearest import nearest
from salad.scores.inputs import Inputs, Normals

DEFAULT_K = 100
MAX_NEIGHBOURS_HELD = 2**22  # largest number of nearest rows in memory at a time, over all queries


def choose_k(k: int | None, *, num_rows: int) -> int:
    """Choose k: the given one, or by default 100, or all rows if there are fewer.

    Raises:
        InputError: the given k exceeds num_rows, the number of memory rows of normal images.
    """
    if k is None:
        return min(DEFAULT_K, num_rows)
    if k > num_rows:
        raise InputError(
            f"--k is {k}, but the memory holds only {num_rows} rows of normal images: use --k {num_rows} or less"
        )
    return k


@torch.no_grad()
def knn_angle(z: Tensor, rows: Tensor, *, k: int) -> Tensor:
    """Compute the mean angle to the k nearest rows, as a fraction of pi (SALAD, section 2.3).

    Args:
        z: unit embeddings, (B, D).
        rows: memory rows of normal images, (N, D).
        k: number of nearest rows, in 1..N.

    Returns:
        Scores, (B,), in [0, 1]; larger is more anomalous.

    Raises:
        InputError: k is larger than N.
    """
    k = choose_k(k, num_rows=len(rows))
    angles = []
    for queries in torch.split(z, max(1, MAX_NEIGHBOURS_HELD // k)):
        cosines, _ = nearest(queries, rows, k=k)
        angles.append(mean_angle(cosines))
    return torch.cat(angles)


def mean_angle(cosines: Tensor) -> Tensor:
    """Compute the mean angle of each row of cosines, as a fraction of pi: (B, k) -> (B,)."""
    return cosines.clamp(-1, 1).arccos().mean(dim=1) / math.pi  # rounding can exceed [-1, 1]


def score(inputs: Inputs, normals: Normals) -> Tensor:
    """Compute the score ``knn`` of a batch, (B,), in [0, 1]."""
    return knn_angle(inputs.z, normals.rows, k=normals.k)
