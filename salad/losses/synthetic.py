"""Loss of synthetic anomalies: they are to be found where they are, and in the image as a whole."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from salad.losses.inputs import LossInputs


def synthetic_loss(cell_logits: Tensor, image_logits: Tensor, *, mask: Tensor) -> Tensor:
    """Binary cross-entropy of synthetic anomalies, in each grid cell and in the image as a whole.

    Args:
        cell_logits: (B, 1, H, W).
        image_logits: (B,).
        mask: strength of the anomaly at each pixel, (B, 1, S, S) in [0, 1]; 0 everywhere in an image without one.

    Returns:
        Sum of both, each a mean, a scalar.
    """
    wanted = F.adaptive_avg_pool2d(mask, (cell_logits.shape[-2], cell_logits.shape[-1]))
    is_corrupted = (mask.amax(dim=(1, 2, 3)) > 0).to(image_logits.dtype)
    of_cells = F.binary_cross_entropy_with_logits(cell_logits, wanted)
    return of_cells + F.binary_cross_entropy_with_logits(image_logits, is_corrupted)


def term(inputs: LossInputs) -> Tensor | None:
    """Compute the term of a step; None where no image has been corrupted."""
    if inputs.cell_logits is None or inputs.image_logits is None or inputs.anomaly_mask is None:
        return None
    return synthetic_loss(inputs.cell_logits, inputs.image_logits, mask=inputs.anomaly_mask)
