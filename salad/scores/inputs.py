"""Inputs of the scores: a batch of images with its network outputs, and the reference to normal images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad.datasets.augment import to_network
from salad.images.preprocessing import Preprocessing
from salad.patch_memory import PatchMemory

if TYPE_CHECKING:
    from salad.networks import Network
    from salad.networks.backbones import Backbone


class Inputs:
    """Batch of images with the outputs of the network, each computed on first use.

    Args:
        network: network in eval mode.
        grey: decoded images, (B, 1, S0, S0), uint8, on the device of the network.
        preprocessing: preprocessing of the run.
    """

    def __init__(self, network: Network, grey: Tensor, preprocessing: Preprocessing) -> None:
        self.network = network
        self.grey = grey
        self.preprocessing = preprocessing

    @cached_property
    def params(self) -> Tensor | None:
        """Parameters that register the images to the template, (B, 4); None without registration."""
        return self.preprocessing.fit(self.grey)

    @cached_property
    def framed(self) -> Tensor:
        """Preprocessed images, (B, 1, S, S), uint8."""
        return self.preprocessing.view(self.grey, self.params)

    @cached_property
    def whole(self) -> Tensor:
        """Preprocessed images before the crop, for a frozen backbone, (B, 1, S0, S0), uint8."""
        return self.preprocessing.view(self.grey, self.params, is_whole=True)

    @cached_property
    def images(self) -> Tensor:
        """Input of the network, (B, 3, S, S) in [-1, 1]."""
        return to_images(self.framed)

    @cached_property
    def z(self) -> Tensor:
        """Unit embeddings, (B, D)."""
        return self.network.encode(self.images)

    @cached_property
    def recon(self) -> Tensor:
        """Reconstructions, (B, 3, S, S) in [-1, 1]."""
        self.z, recon = self.network(self.images)
        return recon  # type: ignore[no-any-return]

    @cached_property
    def for_backbone(self) -> Tensor:
        """Input of a frozen backbone, without the crop, (B, 3, S0, S0) in [-1, 1]."""
        return to_images(self.whole)


def to_images(grey: Tensor) -> Tensor:
    """Convert preprocessed images (B, 1, S, S), uint8, to the input of a network, (B, 3, S, S) in [-1, 1]."""
    return to_network(grey / 255).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, kw_only=True)
class Normals:
    """Reference to normal images that scores compare an image with; all tensors are on the device.

    Attributes:
        rows: memory rows of normal images, (N, D).
        k: number of nearest rows, in 1..N; 0 if no score uses rows.
        temperature: temperature of the weights of the prototype, above 0.
        centre: centre of Deep SVDD, (D,); None if it was not trained.
        rec_loss: ``l1`` or ``mse``, the error of the score ``reconstruction``.
        memories: patch memories, by name of the score.
        backbone: frozen network of the score ``backbone``.
    """

    rows: Tensor
    k: int
    temperature: float
    centre: Tensor | None = None
    rec_loss: str = "l1"
    memories: Mapping[str, PatchMemory]
    backbone: Backbone | None = None
