"""Backbone `resnet18`: a frozen trunk with torchvision's ImageNet weights, up to its patch features."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from salad.networks.weight_files import WeightSource, fetch_advice, fill
from salad.networks.weights import IMAGENET, download_imagenet, imagenet_file

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the colours of ImageNet, in [0, 1]


class FrozenResNet18(nn.Module):
    """Trunk up to its third stage, in eval mode, without gradients; checkpoints do not contain it."""

    name = "resnet18"
    digest = ""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = resnet18()
        self.trunk.layer4 = self.trunk.fc = nn.Identity()  # what is not used is neither loaded nor digested
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(requires_grad=False)

    def load(self, state: Mapping[str, Tensor], *, size: int) -> None:
        """Fill the trunk from a state dict of a ResNet-18, see `fill`; images may have any size."""
        self.digest = fill(self.trunk, state)

    def patch_features(self, images: Tensor) -> Tensor:
        """Compute patch features (B, 256, S/16, S/16) of images (B, 3, S, S) in [-1, 1]."""
        trunk, colours = self.trunk, ((images + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("std")
        maps = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(colours))))
        return trunk.layer3(trunk.layer2(trunk.layer1(maps)))  # type: ignore[no-any-return]


def build(name: str) -> FrozenResNet18:
    """Build the trunk with random weights."""
    return FrozenResNet18()


def find_source(name: str) -> WeightSource:
    """Find the ImageNet weights in the cache of torchvision."""
    file = imagenet_file()
    return WeightSource(
        advice=fetch_advice(IMAGENET.url), file=file if file.exists() else None, fetch=lambda: _fetch(file)
    )


def _fetch(file: Path) -> Path:
    """Download the weights to the cache."""
    download_imagenet()
    return file
