"""Reconstruction error of each image."""

from __future__ import annotations

from torch import Tensor

from salad.scores.inputs import Inputs, Normals


def score(inputs: Inputs, normals: Normals) -> Tensor:
    """Compute the mean error of each image, (B,), as in training: ``l1`` in [0, 2] or ``mse`` in [0, 4]."""
    error = inputs.recon - inputs.images
    return (error.abs() if normals.rec_loss == "l1" else error.square()).mean(dim=(1, 2, 3))
