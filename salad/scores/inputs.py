"""A batch of images as scores see it, and what a model knows of normal images."""

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
    """A batch as the network sees it, and what the network makes of it, once it is asked for.

    Args:
        network: in eval mode.
        grey: as decoded, (B, 1, S0, S0), uint8, on its device.
        preprocessing: of the run.
    """

    def __init__(self, network: Network, grey: Tensor, preprocessing: Preprocessing) -> None:
        self.network = network
        self.grey = grey
        self.preprocessing = preprocessing

    @cached_property
    def params(self) -> Tensor | None:
        """How the images are framed, (B, 4); None where they are left as they are."""
        return self.preprocessing.fit(self.grey)

    @cached_property
    def framed(self) -> Tensor:
        """What the network sees, (B, 1, S, S), uint8."""
        return self.preprocessing.view(self.grey, self.params)

    @cached_property
    def whole(self) -> Tensor:
        """The same with nothing cut off, as a frozen backbone sees it, (B, 1, S0, S0), uint8."""
        return self.preprocessing.view(self.grey, self.params, is_whole=True)

    @cached_property
    def images(self) -> Tensor:
        """What the network sees, (B, 3, S, S) in [-1, 1]."""
        return to_images(self.framed)

    @cached_property
    def z(self) -> Tensor:
        """Embeddings, (B, D)."""
        return self.network.encode(self.images)

    @cached_property
    def recon(self) -> Tensor:
        """Reconstructions, (B, 3, S, S)."""
        self.z, recon = self.network(self.images)
        return recon  # type: ignore[no-any-return]

    @cached_property
    def for_backbone(self) -> Tensor:
        """What a frozen backbone sees, with nothing cut off, (B, 3, S0, S0) in [-1, 1]."""
        return to_images(self.whole)


def to_images(grey: Tensor) -> Tensor:
    """Normalised grey images (B, 1, S, S), uint8, as a network sees them, (B, 3, S, S) in [-1, 1]."""
    return to_network(grey / 255).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, kw_only=True)
class Normals:
    """What a model knows of normal images, all of it on the device.

    Attributes:
        rows: memory rows of normal images, (N, D).
        k: nearest rows behind a score, in 1..N; 0 where no score is made of rows.
        temperature: of the weights of the prototype, above 0.
        centre: of Deep SVDD, (D,); None where it was not trained.
        rec_loss: ``l1`` or ``mse``, the error of the score ``reconstruction``.
        memories: patch memories, by the name of the score.
        backbone: the frozen network of the score ``backbone``.
    """

    rows: Tensor
    k: int
    temperature: float
    centre: Tensor | None = None
    rec_loss: str = "l1"
    memories: Mapping[str, PatchMemory]
    backbone: Backbone | None = None
