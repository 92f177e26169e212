"""Distance of patch features to those of normal images in the same grid cell."""

from __future__ import annotations

from torch import Tensor

from salad.networks.backbones import Backbone
from salad.patch_memory import PatchMaps
from salad.scores.inputs import Inputs, Normals


def local_features(inputs: Inputs, backbone: Backbone | None) -> PatchMaps:
    """Compute patch features of the encoder from the images that the network sees."""
    features = inputs.network.patch_features(inputs.images)
    return PatchMaps(features, inputs.preprocessing.find_seen(inputs.grey, inputs.params))


def backbone_features(inputs: Inputs, backbone: Backbone | None) -> PatchMaps:
    """Compute patch features of the frozen backbone from whole images."""
    assert backbone is not None, "loaded with the model"
    features = backbone.patch_features(inputs.for_backbone)
    return PatchMaps(features, inputs.preprocessing.find_seen(inputs.grey, inputs.params, is_whole=True))


def local_score(inputs: Inputs, normals: Normals) -> Tensor:
    """Compute the score ``local`` of a batch, (B,)."""
    return normals.memories["local"].scores(local_features(inputs, None))


def backbone_score(inputs: Inputs, normals: Normals) -> Tensor:
    """Compute the score ``backbone`` of a batch, (B,)."""
    return normals.memories["backbone"].scores(backbone_features(inputs, normals.backbone))
