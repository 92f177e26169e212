"""Distance to the centre of Deep SVDD."""

from __future__ import annotations

from torch import Tensor

from salad.losses.svdd import svdd_distances
from salad.scores.inputs import Inputs, Normals


def score(inputs: Inputs, normals: Normals) -> Tensor:
    """Compute the squared distance of each embedding to the centre, (B,), in [0, 4]."""
    assert normals.centre is not None, "checked when the model was loaded"
    return svdd_distances(inputs.z, normals.centre)
