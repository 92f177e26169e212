"""The networks, by name. Importing this package does not import torch; building a network does."""

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
    """What can be known of a network without building it.

    Attributes:
        cls: ``module:Class`` inside this package.
        default_isize: image size of the paper's program, in pixels.
        size_multiple: image sizes must be a multiple of it.
        has_imagenet_trunk: whether torchvision has weights for its encoder.
        decodes_embedding: whether reconstructions are made of the embedding, rather than of what is before it.
        embedding_weight: the tensor of shape (D, ...) by which a checkpoint of this network is told.
        fixes_isize: whether its embedding takes images of one size only, the last dimension of that tensor times
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
    """The entry of `NETWORKS`.

    Raises:
        InputError: there is no network of this name.
    """
    if name not in NETWORKS:
        raise InputError(f"no network is called '{name}': choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def check_isize(name: str, isize: int) -> None:
    """Raise `InputError` where a network cannot take images of isize x isize pixels."""
    multiple = network_spec(name).size_multiple
    if isize < multiple or isize % multiple:
        nearest = max(multiple, round(isize / multiple) * multiple)
        raise InputError(f"--isize is {isize}, but {name} needs a multiple of {multiple}: {nearest}, for example")


def build_network(name: str, *, rep_dim: int, isize: int, weights: str | None = None) -> Network:
    """Build a network whose call returns ``(z, reconstruction)``.

    Args:
        name: one of `NETWORKS`.
        rep_dim: D, the length of the unit embedding z.
        isize: S, height and width of the input in pixels.
        weights: for a ResNet trunk: ``imagenet``, the path of a state dict, or None for a random start.
            Where ImageNet weights cannot be fetched, a warning is logged and the start is random.

    Returns:
        A module that maps images (B, 3, S, S) in [-1, 1] to z (B, D) and a reconstruction (B, 3, S, S);
        its `encode` gives z alone, and its `weights_loaded` says where its trunk began:
        ``imagenet``, a path, or ``none``.

    Raises:
        InputError: an unknown name, an unfit size, or weights that do not fit.
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
