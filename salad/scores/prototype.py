"""Weighted prototype: cosine distance to a weighted combination of the nearest memory rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from salad.nearest import nearest
from salad.scores.inputs import Inputs, Normals
from salad.scores.knn import MAX_NEIGHBOURS_HELD, choose_k


@torch.no_grad()
def weighted_prototype(z: Tensor, rows: Tensor, *, k: int, temperature: float) -> Tensor:
    """Compute 1 - cosine to a weighted combination of the k nearest rows, the score in the text of the paper.

    The weights are the softmax of cosine / temperature over the k nearest.

    Args:
        z: unit embeddings, (B, D).
        rows: memory rows of normal images, (N, D).
        k: number of nearest rows, in 1..N.
        temperature: tau > 0.

    Returns:
        Scores, (B,), in [0, 2]; larger is more anomalous.

    Raises:
        InputError: k is larger than N.
    """
    k = choose_k(k, num_rows=len(rows))
    scores = []
    for queries in torch.split(z, max(1, MAX_NEIGHBOURS_HELD // k)):
        cosines, index = nearest(queries, rows, k=k)
        weights = (cosines / temperature).softmax(dim=1)
        prototypes = F.embedding_bag(index, rows, per_sample_weights=weights, mode="sum")  # never allocates (B, k, D)
        scores.append(1 - torch.einsum("bd,bd->b", queries, F.normalize(prototypes, dim=1)))
    return torch.cat(scores)


def score(inputs: Inputs, normals: Normals) -> Tensor:
    """Compute the score ``weighted`` of a batch, (B,), in [0, 2]."""
    return weighted_prototype(inputs.z, normals.rows, k=normals.k, temperature=normals.temperature)
