"""The three terms of the loss, as pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from salad.anchors import Anchors


def reconstruction_loss(recon: Tensor, target: Tensor, *, kind: str = "l1") -> Tensor:
    """Mean error over all elements.

    Args:
        recon: (B, C, S, S), in [-1, 1].
        target: the clean images, of the same shape and range.
        kind: ``l1``, mean absolute error (the released program), or ``mse`` (as the paper prints it).
    """
    return {"l1": F.l1_loss, "mse": F.mse_loss}[kind](recon, target)


def aggregation_loss(
    z: Tensor,
    index: Tensor,
    rows: Tensor,
    *,
    temperature: float,
    anchors: Anchors | None = None,
    num_views: int = 1,
) -> Tensor:
    """Instance discrimination with aggregated neighbourhoods (SALAD, eq. 1; Huang et al., ICML 2019).

    The mean over the batch of -log of the probability that z falls on a row of its own image, or, where
    its row is an anchor, on one of those or of the anchor's neighbours. The softmax runs over all rows.
    The gradient flows through z only.

    Args:
        z: unit embeddings, (B, D).
        index: the row of each embedding, (B,): image * num_views + view.
        rows: the memory bank, (N, D).
        temperature: tau > 0.
        anchors: of this round; None in round 0 (plain instance discrimination).
        num_views: V, how many consecutive rows belong to one image.

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


def svdd_distances(z: Tensor, centre: Tensor) -> Tensor:
    """Squared distance of each embedding to the centre: (B, D), (D,) -> (B,), in [0, 4] for unit vectors."""
    return (z - centre).square().sum(dim=1)


def svdd_loss(z: Tensor, centre: Tensor, *, radius: Tensor | None = None, nu: float | None = None) -> Tensor:
    """Deep SVDD (Ruff et al., ICML 2018, eq. 4; with a radius the soft-boundary form, eq. 3).

    Args:
        z: unit embeddings, (B, D).
        centre: c, fixed, (D,).
        radius: R >= 0, a scalar; None for the one-class form.
        nu: in (0, 1], the share of training images allowed outside; needed with a radius.
    """
    distances = svdd_distances(z, centre)
    if radius is None:
        return distances.mean()
    assert nu is not None, "the soft boundary needs nu"
    outside = (distances - radius**2).clamp(min=0)
    return radius**2 + outside.mean() / nu


def svdd_radius(distances: Tensor, *, nu: float) -> Tensor:
    """The radius that leaves a share nu outside: root of the (1 - nu) quantile of squared distances (B,)."""
    ordered = distances.sort().values  # torch.quantile refuses more than 16 million values
    place = (1 - nu) * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], place - low).sqrt()


def synthetic_loss(at_places: Tensor, in_image: Tensor, *, amount: Tensor) -> Tensor:
    """How badly synthetic anomalies are found, at their places and in the image as a whole.

    Args:
        at_places: logits, (B, 1, H, W).
        in_image: logits, (B,).
        amount: of an anomaly in [0, 1] at each pixel, (B, 1, S, S); 0 everywhere where there is none.

    Returns:
        Sum of both binary cross-entropies, each a mean, a scalar.
    """
    wanted = F.adaptive_avg_pool2d(amount, (at_places.shape[-2], at_places.shape[-1]))
    is_spoilt = (amount.amax(dim=(1, 2, 3)) > 0).to(in_image.dtype)
    return F.binary_cross_entropy_with_logits(at_places, wanted) + F.binary_cross_entropy_with_logits(
        in_image, is_spoilt
    )
