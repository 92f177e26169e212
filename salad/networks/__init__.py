"""Build networks by name. Importing this package does not import torch; building a network does."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from salad.errors import InputError

if TYPE_CHECKING:
    from torch import nn

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
        patch_modules: modules with weights that compute the patch features.
        embedding_modules: further ones that compute the embeddings.
        decoder_modules: further ones that reconstruct.
        fixes_isize: True if the embedding accepts a single image size: the last dimension of that tensor times
            `size_multiple`.
    """

    cls: str
    default_isize: int
    size_multiple: int
    has_imagenet_trunk: bool
    decodes_embedding: bool
    embedding_weight: str
    patch_modules: tuple[str, ...]
    embedding_modules: tuple[str, ...]
    decoder_modules: tuple[str, ...]
    fixes_isize: bool = False


NETWORKS = {
    "unet": NetworkSpec(
        cls="unet:UNet",
        default_isize=256,
        size_multiple=64,
        has_imagenet_trunk=False,
        decodes_embedding=True,
        embedding_weight="feat.weight",
        patch_modules=("input", "e1", "e2", "e3"),
        embedding_modules=("e4", "e5", "e6", "feat"),
        decoder_modules=("defeat", "d1", "d2", "d3", "d4", "d5", "d6", "final"),
        fixes_isize=True,
    ),
    "CXR_resnet18": NetworkSpec(
        cls="resnet18:CXRResNet18",
        default_isize=224,
        size_multiple=16,
        has_imagenet_trunk=True,
        decodes_embedding=False,
        embedding_weight="encoder.fc.weight",
        patch_modules=("encoder.conv1", "encoder.bn1", "encoder.layer1", "encoder.layer2", "encoder.layer3"),
        embedding_modules=("encoder.layer4", "encoder.fc"),
        decoder_modules=("decoder",),
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


def build_modules(name: str, *, rep_dim: int, isize: int, modules: Iterable[str]) -> Network:
    """Build some modules of a network, with memory for their weights but without values.

    Args:
        name: one of `NETWORKS`.
        rep_dim: D, the length of the unit embedding z.
        isize: S, height and width of the images in pixels.
        modules: names of the modules with weights that are needed; the others are left out.

    Raises:
        InputError: the name is unknown, or the size does not fit the network.
    """
    import torch

    with torch.device("meta"):  # takes neither time nor memory
        network = build_network(name, rep_dim=rep_dim, isize=isize)
    _leave_out(network, {*modules})
    network.to_empty(device="cpu")
    return network


def _leave_out(module: nn.Module, kept: Set[str], *, prefix: str = "") -> None:
    """Remove the modules with weights below a module that are neither kept nor hold or belong to a kept one."""
    for name, child in [*module.named_children()]:
        path = prefix + name
        if path in kept or next(child.parameters(), None) is None:
            continue
        if any(other.startswith(f"{path}.") for other in kept):
            _leave_out(child, kept, prefix=f"{path}.")
        else:
            delattr(module, name)
