"""Build networks by name. Importing this package does not import torch; building a network does."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from salad.errors import InputError

if TYPE_CHECKING:
    from salad.networks.resnet18 import CXRResNet18
    from salad.networks.unet import UNet

    Network = UNet | CXRResNet18

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Facts about a network that are known without building it.

    Attributes:
        cls: ``module:Class`` inside this package.
        default_isize: image size of the paper's program, in pixels.
        size_multiple: number of pixels that every image size must be a multiple of.
        has_imagenet_trunk: True if torchvision has ImageNet weights for the encoder.
        decodes_embedding: True if the decoder starts from the embedding, False if from the last feature map.
        embedding_weight: name of the tensor of shape (D, ...) that identifies this network in a checkpoint.
        fixes_isize: True if the embedding accepts a single image size: the last dimension of that tensor times
            `size_multiple`.
    """

    cls: str
    default_isize: int
    size_multiple: int
    has_imagenet_trunk: bool
    decodes_embedding: bool
    embedding_weight: str
    fixes_isize: bool = False


NETWORKS = {
    "unet": NetworkSpec(
        cls="unet:UNet",
        default_isize=256,
        size_multiple=64,
        has_imagenet_trunk=False,
        decodes_embedding=True,
        embedding_weight="feat.weight",
        fixes_isize=True,
    ),
    "CXR_resnet18": NetworkSpec(
        cls="resnet18:CXRResNet18",
        default_isize=224,
        size_multiple=16,
        has_imagenet_trunk=True,
        decodes_embedding=False,
        embedding_weight="encoder.fc.weight",
    ),
}


def network_spec(name: str) -> NetworkSpec:
    """Return the entry of a network in `NETWORKS`.

    Args:
        name: name of the network.

    Raises:
        InputError: the name is unknown.
    """
    if name not in NETWORKS:
        raise InputError(f"no network is called '{name}': choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def check_isize(name: str, isize: int) -> None:
    """Check that a network accepts images of `isize` x `isize` pixels.

    Args:
        name: one of `NETWORKS`.
        isize: height and width of the images in pixels.

    Raises:
        InputError: the name is unknown, or the size is not a multiple of the network's.
    """
    multiple = network_spec(name).size_multiple
    if isize < multiple or isize % multiple:
        nearest = max(multiple, round(isize / multiple) * multiple)
        raise InputError(f"--isize is {isize}, but {name} needs a multiple of {multiple}: {nearest}, for example")


def build_network(name: str, *, rep_dim: int, isize: int, weights: str | None = None) -> Network:
    """Build a network whose call returns ``(z, reconstruction)``.

    Args:
        name: one of `NETWORKS`.
        rep_dim: D, the length of the unit embedding z.
        isize: S, height and width of the images in pixels.
        weights: initial weights of a ResNet trunk: ``imagenet``, the path of a state dict, or None for random ones.
            If ImageNet weights cannot be fetched, a warning is logged and the weights are random.

    Returns:
        A module that maps images (B, 3, S, S) in [-1, 1] to z (B, D) and a reconstruction (B, 3, S, S). Its `encode`
        returns z alone. Its `weights_loaded` names the source of the trunk's weights: ``imagenet``, a path, or
        ``none``.

    Raises:
        InputError: the name is unknown, or size or weights do not fit the network.
    """
    check_isize(name, isize)
    spec = NETWORKS[name]
    module, cls = spec.cls.split(":")
    network: Network = getattr(import_module(f"{__name__}.{module}"), cls)(rep_dim=rep_dim, isize=isize)
    if weights is not None:
        if not spec.has_imagenet_trunk:
            raise InputError(f"--weights {weights} is for a ResNet trunk; {name} has none: leave --weights out")
        from salad.networks.weights import load_trunk

        network.weights_loaded = load_trunk(network.encoder, weights)
    return network
