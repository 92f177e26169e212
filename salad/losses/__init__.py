"""Terms of the loss, by name; importing this package does not import torch, computing a term does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from salad.losses.aggregation import aggregation_loss
    from salad.losses.inputs import LossInputs
    from salad.losses.reconstruction import reconstruction_loss
    from salad.losses.svdd import svdd_distances, svdd_loss, svdd_radius
    from salad.losses.synthetic import synthetic_loss

    Term = Callable[[LossInputs], Tensor | None]

__all__ = [
    "LOSSES",
    "LossSpec",
    "aggregation_loss",
    "reconstruction_loss",
    "svdd_distances",
    "svdd_loss",
    "svdd_radius",
    "synthetic_loss",
]
EMBEDDINGS, RECONSTRUCTION, ANOMALY_HEAD = "embeddings", "reconstruction", "anomaly head"


@dataclass(frozen=True, kw_only=True)
class LossSpec:
    """Term of the loss.

    Attributes:
        term: ``module:function`` inside this package; the function takes `LossInputs` and returns a scalar, or None
            while the term cannot be computed yet.
        weight: name of the option for the weight of the term.
        default: weight if none is given.
        help: help text of that option.
        title: title of its curve in the report.
        trains: output of the network that the term needs and trains: `EMBEDDINGS`, `RECONSTRUCTION`, `ANOMALY_HEAD`.
        in_pre_training: True if the term takes part in the epochs before round 0.
    """

    term: str
    weight: str
    default: float
    help: str
    title: str
    trains: str
    in_pre_training: bool = False

    def load(self) -> Term:
        """Import the function of the term."""
        module, function = self.term.split(":")
        term: Term = getattr(import_module(f"{__name__}.{module}"), function)
        return term


LOSSES = {
    "rec": LossSpec(
        term="reconstruction:term",
        weight="w_rec",
        default=0.5,
        help="Weight of the reconstruction loss.",
        title="Reconstruction loss",
        trains=RECONSTRUCTION,
        in_pre_training=True,
    ),
    "aggregation": LossSpec(
        term="aggregation:term",
        weight="w_contrast",
        default=1.0,
        help="Weight of the aggregation loss; with 0, training has round 0 only and no anchors.",
        title="Aggregation loss",
        trains=EMBEDDINGS,
    ),
    "svdd": LossSpec(
        term="svdd:term",
        weight="w_svdd",
        default=0.5,
        help="Weight of the Deep SVDD loss.",
        title="Deep SVDD loss",
        trains=EMBEDDINGS,
    ),
    "syn": LossSpec(
        term="synthetic:term",
        weight="w_syn",
        default=0.0,
        help="Weight of the loss for detecting synthetic anomalies. It trains the encoder up to the patch features of "
        "--score local.",
        title="Loss of synthetic anomalies",
        trains=ANOMALY_HEAD,
    ),
}


def __getattr__(name: str) -> Any:
    """Import a function of a term when it is asked for, and torch with it."""
    if name in __all__:
        for spec in LOSSES.values():
            module = import_module(f"{__name__}.{spec.term.split(':')[0]}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
