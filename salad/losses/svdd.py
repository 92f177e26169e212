"""Deep SVDD loss: pull embeddings to a fixed centre (Ruff et al., ICML 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from salad.losses.inputs import LossInputs


def svdd_distances(z: Tensor, centre: Tensor) -> Tensor:
    """Compute the squared distance of each embedding to the centre: (B, D), (D,) -> (B,), in [0, 4]."""
    return (z - centre).square().sum(dim=1)


def svdd_loss(z: Tensor, centre: Tensor, *, radius: Tensor | None = None, nu: float | None = None) -> Tensor:
    """Compute the Deep SVDD loss (Ruff et al., ICML 2018, eq. 4; with a radius the soft-boundary loss, eq. 3).

    Args:
        z: unit embeddings, (B, D).
        centre: fixed centre c, (D,).
        radius: R >= 0, a scalar; None for the one-class loss.
        nu: share of training images allowed outside the boundary, in (0, 1]; required with a radius.

    Returns:
        A scalar, at least 0.
    """
    distances = svdd_distances(z, centre)
    if radius is None:
        return distances.mean()
    assert nu is not None, "the soft boundary needs nu"
    outside = (distances - radius**2).clamp(min=0)
    return radius**2 + outside.mean() / nu


def svdd_radius(distances: Tensor, *, nu: float) -> Tensor:
    """Compute the radius with a share nu of images outside: root of the (1 - nu) quantile of squared distances (N,)."""
    ordered = distances.sort().values  # torch.quantile refuses more than 16 million values
    position = (1 - nu) * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], position - low).sqrt()


def term(inputs: LossInputs) -> Tensor | None:
    """Compute the Deep SVDD loss of a step; None without embeddings, or before the centre is set."""
    if inputs.z is None or inputs.centre is None:
        return None
    return svdd_loss(inputs.z, inputs.centre, radius=inputs.radius, nu=inputs.nu)
