"""Backbone `resnet18`: a frozen trunk with torchvision's ImageNet weights, up to its patch features."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from salad.errors import InputError
from salad.networks.weights import load_trunk

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the colours of ImageNet, in [0, 1]


class FrozenResNet18(nn.Module):
    """Trunk up to its third stage, in eval mode, without gradients; checkpoints do not contain it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = resnet18()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(requires_grad=False)

    def patch_features(self, images: Tensor) -> Tensor:
        """Compute patch features (B, 256, S/16, S/16) of images (B, 3, S, S) in [-1, 1]."""
        trunk, colours = self.trunk, ((images + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("std")
        maps = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(colours))))
        return trunk.layer3(trunk.layer2(trunk.layer1(maps)))  # type: ignore[no-any-return]


def load_resnet18() -> FrozenResNet18:
    """Load the trunk with its weights from torchvision's cache or the internet.

    Raises:
        InputError: the weights could not be fetched.
    """
    network = FrozenResNet18()
    if load_trunk(network.trunk, "imagenet") == "none":
        raise InputError(
            "--backbone resnet18 needs ImageNet weights, which could not be fetched: put them where the warning above "
            "says, or use --backbone efficientnet_lite0"
        )
    return network
