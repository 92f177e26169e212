"""Loss of synthetic anomalies: the anomaly head detects them in each grid cell and in the whole image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from salad.losses.inputs import LossInputs


def synthetic_loss(cell_logits: Tensor, image_logits: Tensor, *, mask: Tensor) -> Tensor:
    """Compute the binary cross-entropy of synthetic anomalies in grid cells, plus that in whole images.

    Args:
        cell_logits: logits of an anomaly in each grid cell, (B, 1, H, W).
        image_logits: logits of an anomaly in each image, (B,).
        mask: strength of the anomaly at each pixel, (B, 1, S, S) in [0, 1]; 0 everywhere in a clean image.

    Returns:
        Mean over cells plus mean over images, a scalar.
    """
    cell_targets = F.adaptive_avg_pool2d(mask, (cell_logits.shape[-2], cell_logits.shape[-1]))
    is_corrupted = (mask.amax(dim=(1, 2, 3)) > 0).to(image_logits.dtype)
    of_cells = F.binary_cross_entropy_with_logits(cell_logits, cell_targets)
    return of_cells + F.binary_cross_entropy_with_logits(image_logits, is_corrupted)


def term(inputs: LossInputs) -> Tensor | None:
    """Compute the loss of synthetic anomalies of a step; None if no image is corrupted."""
    if inputs.cell_logits is None or inputs.image_logits is None or inputs.anomaly_mask is None:
        return None
    return synthetic_loss(inputs.cell_logits, inputs.image_logits, mask=inputs.anomaly_mask)
