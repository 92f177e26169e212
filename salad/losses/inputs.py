"""Tensors of one training step, from which the terms of the loss are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from salad.anchors import Anchors


@dataclass(frozen=True, kw_only=True)
class LossInputs:
    """Tensors of a step; a tensor that no term needs is None.

    Attributes:
        z: unit embeddings of the views, (B, D).
        recon: reconstructions of the views, (B, 3, S, S) in [-1, 1].
        targets: clean images, of the same shape and range.
        index: memory row of each view, (B,): image * num_views + view.
        rows: rows of the memory bank, (N, D).
        temperature: temperature of the softmax over the rows, above 0.
        num_views: V, number of consecutive rows that belong to one image.
        anchors: anchors of the round; None in round 0.
        centre: centre of Deep SVDD, (D,); None before round 0.
        radius: radius of the soft boundary, a scalar; None with the one-class objective.
        nu: share of images outside the soft boundary, in (0, 1].
        rec_loss: ``l1`` or ``mse``.
        cell_logits: logits of a synthetic anomaly in each grid cell, (B, 1, H, W).
        image_logits: logits of a synthetic anomaly in each image, (B,).
        anomaly_mask: strength of the synthetic anomaly at each pixel, (B, 1, S, S) in [0, 1].
    """

    z: Tensor | None
    recon: Tensor | None
    targets: Tensor
    index: Tensor
    rows: Tensor
    temperature: float
    num_views: int
    anchors: Anchors | None
    centre: Tensor | None
    radius: Tensor | None
    nu: float
    rec_loss: str
    cell_logits: Tensor | None = None
    image_logits: Tensor | None = None
    anomaly_mask: Tensor | None = None
