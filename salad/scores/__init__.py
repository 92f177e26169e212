"""Anomaly scores of images, by name; importing this package does not import torch, computing a score does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from salad.losses import EMBEDDINGS, RECONSTRUCTION

if TYPE_CHECKING:
    from torch import Tensor

    from salad.networks.backbones import Backbone
    from salad.patch_memory import PatchMaps
    from salad.scores.inputs import Inputs, Normals
    from salad.scores.knn import knn_angle
    from salad.scores.prototype import weighted_prototype

    Score = Callable[[Inputs, Normals], Tensor]
    PatchFeatures = Callable[[Inputs, Backbone | None], PatchMaps]

__all__ = ["FUSED", "PATCH_SCORES", "SCORES", "ScoreSpec", "knn_angle", "weighted_prototype"]
FUSED = "fused"  # the mean of several scores, each standardised by normal validation images


@dataclass(frozen=True, kw_only=True)
class ScoreSpec:
    """Score of an image.

    Attributes:
        score: ``module:function`` inside this package; the function takes `Inputs` and `Normals` and returns one value
            for each image, (B,), larger for more anomalous ones.
        help: short description for --help.
        features: ``module:function`` that computes the patch features of a patch score; None for other scores.
        settings: options that the patch memory of the score depends on.
        neighbourhood: number of nearest rows of the patch memory that count, and the share of their spacing that is
            subtracted; see `salad.patch_rows.Neighbourhood`.
        needs: part of the network that a loss must have trained, `EMBEDDINGS` or `RECONSTRUCTION`; None if none.
        uses_rows: True if the score is computed from the k nearest rows of the memory bank.
        uses_centre: True if the score needs the centre of Deep SVDD.
        uses_backbone: True if the score uses the frozen network of --backbone.
        sees_whole: True if the score also sees the border that --crop cuts off.
        exportable: True if the score can be exported.
    """

    score: str
    help: str
    features: str | None = None
    settings: tuple[str, ...] = ()
    neighbourhood: tuple[int, float] = (1, 0.0)
    needs: str | None = None
    uses_rows: bool = False
    uses_centre: bool = False
    uses_backbone: bool = False
    sees_whole: bool = False
    exportable: bool = False

    def load(self) -> Score:
        """Import the function of the score."""
        score: Score = _load(self.score)
        return score

    def load_features(self) -> PatchFeatures:
        """Import the function that computes the patch features."""
        assert self.features is not None, "only patch scores have features"
        features: PatchFeatures = _load(self.features)
        return features


def _load(name: str) -> Any:
    """Import ``module:function`` from this package."""
    module, function = name.split(":")
    return getattr(import_module(f"{__name__}.{module}"), function)


SCORES = {
    "knn": ScoreSpec(
        score="knn:score",
        help="mean angle to the nearest memory rows",
        needs=EMBEDDINGS,
        uses_rows=True,
        exportable=True,
    ),
    "weighted": ScoreSpec(
        score="prototype:score", help="distance to a weighted prototype of these rows", needs=EMBEDDINGS, uses_rows=True
    ),
    "svdd": ScoreSpec(score="svdd:score", help="distance to the Deep SVDD centre", needs=EMBEDDINGS, uses_centre=True),
    "reconstruction": ScoreSpec(score="reconstruction:score", help="reconstruction error", needs=RECONSTRUCTION),
    "local": ScoreSpec(
        score="patches:local_score",
        help="patch features of the encoder",
        features="patches:local_features",
        settings=("local_grid", "local_rows"),
        neighbourhood=(1, 0.5),
        exportable=True,
    ),
    "backbone": ScoreSpec(
        score="patches:backbone_score",
        help="patch features of --backbone",
        features="patches:backbone_features",
        settings=("local_grid", "local_rows", "backbone"),
        neighbourhood=(3, 1.0),
        uses_backbone=True,
        sees_whole=True,
        exportable=True,
    ),
}
PATCH_SCORES = tuple(name for name, spec in SCORES.items() if spec.features is not None)


def __getattr__(name: str) -> Any:
    """Import a function of a score when it is asked for, and torch with it."""
    functions = {"knn_angle": "knn:knn_angle", "weighted_prototype": "prototype:weighted_prototype"}
    if name in functions:
        return _load(functions[name])
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
