"""Neighbourhood aggregation: instance discrimination over the memory bank, with anchors (SALAD, eq. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad.losses.inputs import LossInputs

if TYPE_CHECKING:
    from salad.anchors import Anchors


def aggregation_loss(
    z: Tensor,
    index: Tensor,
    rows: Tensor,
    *,
    temperature: float,
    anchors: Anchors | None = None,
    num_views: int = 1,
) -> Tensor:
    """Compute the aggregation loss: instance discrimination with neighbourhoods of anchors.

    SALAD, eq. 1; Huang et al., ICML 2019. The loss is the mean over the batch of -log p. A softmax over all rows gives
    the probability of each row; p is the sum over the rows of the same image and, if the row of z is an anchor, over
    the anchor's neighbours. The gradient flows through z only.

    Args:
        z: unit embeddings, (B, D).
        index: memory row of each embedding, (B,): image * num_views + view.
        rows: rows of the memory bank, (N, D).
        temperature: tau > 0.
        anchors: anchors of the round; None in round 0 (plain instance discrimination).
        num_views: V, number of consecutive rows that belong to one image.

    Returns:
        A scalar, in nats; 0 or more up to rounding.
    """
    logits = z @ rows.detach().to(z.dtype).T / temperature
    image = index // num_views
    positives = image[:, None] * num_views + torch.arange(num_views, device=index.device)
    if anchors is not None:
        neighbours = anchors.neighbours_of(index)
        counted_already = neighbours // num_views == image[:, None]  # another view of the same image
        neighbours = neighbours.masked_fill(counted_already, -1)
        positives = torch.cat([positives, neighbours], dim=1)
    positive_logits = logits.gather(1, positives.clamp(min=0)).masked_fill(positives < 0, -torch.inf)
    return (logits.logsumexp(dim=1) - positive_logits.logsumexp(dim=1)).mean()


def term(inputs: LossInputs) -> Tensor | None:
    """Compute the aggregation loss of a step; None without embeddings."""
    if inputs.z is None:
        return None
    return aggregation_loss(
        inputs.z,
        inputs.index,
        inputs.rows,
        temperature=inputs.temperature,
        anchors=inputs.anchors,
        num_views=inputs.num_views,
    )
