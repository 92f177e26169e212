"""How unlike all normal images: scores of embeddings against the normal rows of the memory bank."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from salad.errors import InputError
from salad.nearest import nearest

DEFAULT_K = 100
NEEDS_ROWS = {"knn", "weighted"}  # the scores that are made of the nearest rows
FOUND = 2**22  # nearest rows, of all queries together, that are held at a time


def choose_k(k: int | None, *, num_rows: int) -> int:
    """The k asked for, or by default 100, or all rows where there are fewer.

    Raises:
        InputError: k was asked for and exceeds num_rows, the number of memory rows of normal images.
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
    """Mean angle to the k nearest rows, as a fraction of pi (SALAD, section 2.3).

    Args:
        z: unit embeddings, (B, D).
        rows: memory rows of normal images, (N, D).
        k: in 1..N.

    Returns:
        (B,), in [0, 1]; larger is more anomalous.

    Raises:
        InputError: k is larger than N.
    """
    k = choose_k(k, num_rows=len(rows))
    angles = []
    for queries in torch.split(z, max(1, FOUND // k)):
        cosines, _ = nearest(queries, rows, k=k)
        angles.append(mean_angle(cosines))
    return torch.cat(angles)


def mean_angle(cosines: Tensor) -> Tensor:
    """Mean angle of each row of cosines, as a fraction of pi: (B, k) -> (B,)."""
    return cosines.clamp(-1, 1).arccos().mean(dim=1) / math.pi  # rounding can leave [-1, 1]


@torch.no_grad()
def weighted_prototype(z: Tensor, rows: Tensor, *, k: int, temperature: float) -> Tensor:
    """One minus the cosine to a weighted combination of the k nearest rows, as the paper words its score.

    The weights are the softmax of cosine / temperature over the k nearest.

    Args:
        z: unit embeddings, (B, D).
        rows: memory rows of normal images, (N, D).
        k: in 1..N.
        temperature: tau > 0.

    Returns:
        (B,), in [0, 2]; larger is more anomalous.

    Raises:
        InputError: k is larger than N.
    """
    k = choose_k(k, num_rows=len(rows))
    scores = []
    for queries in torch.split(z, max(1, FOUND // k)):
        cosines, index = nearest(queries, rows, k=k)
        weights = (cosines / temperature).softmax(dim=1)
        prototypes = F.embedding_bag(index, rows, per_sample_weights=weights, mode="sum")  # never holds (B, k, D)
        scores.append(1 - torch.einsum("bd,bd->b", queries, F.normalize(prototypes, dim=1)))
    return torch.cat(scores)
