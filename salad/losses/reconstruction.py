"""Reconstruction loss: error of the reconstructed views."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from salad.losses.inputs import LossInputs


def reconstruction_loss(recon: Tensor, target: Tensor, *, kind: str = "l1") -> Tensor:
    """Compute the mean error over all elements, a scalar.

    Args:
        recon: reconstructions, (B, C, S, S), in [-1, 1].
        target: clean images, of the same shape and range.
        kind: ``l1``, mean absolute error (the released program), or ``mse`` (as the paper prints it).
    """
    return {"l1": F.l1_loss, "mse": F.mse_loss}[kind](recon, target)


def term(inputs: LossInputs) -> Tensor | None:
    """Compute the reconstruction loss of a step; None without reconstructions."""
    if inputs.recon is None:
        return None
    return reconstruction_loss(inputs.recon, inputs.targets, kind=inputs.rec_loss)
