"""The scores of a model by name: what each makes of a batch of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad import losses
from salad.datasets.augment import to_network
from salad.errors import InputError
from salad.images.preprocessing import Preprocessing
from salad.patch_memory import LocalMaps, LocalMemory
from salad.scoring import knn

if TYPE_CHECKING:
    from salad.networks import Network
    from salad.networks.backbones import Backbone

LOCAL = {"local", "backbone"}  # the scores that are made of a local memory


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


Score = Callable[[Inputs], Tensor]
"""From a batch to scores, (B,); larger is more anomalous."""


def choose_score(
    name: str,
    *,
    rows: Tensor,
    k: int,
    temperature: float,
    centre: Tensor | None = None,
    rec_loss: str = "l1",
    memories: Mapping[str, LocalMemory] | None = None,
    backbone: Backbone | None = None,
) -> Score:
    """A score by its option name.

    Args:
        name: one of `SCORES` of the options, but for ``fused``.
        rows: memory rows of normal images, (N, D).
        k: nearest rows.
        temperature: of the weights of ``weighted``.
        centre: of Deep SVDD, (D,).
        rec_loss: ``l1`` or ``mse``, the error of ``reconstruction``.
        memories: for ``local`` and ``backbone``, by these names, on the device.
        backbone: for ``backbone``.

    Raises:
        InputError: ``svdd`` has no centre.
    """
    if name == "svdd":
        if centre is None:
            raise InputError("--score svdd needs a model that was trained with --w_svdd above 0")
        return lambda inputs: losses.svdd_distances(inputs.z, centre)
    if name == "reconstruction":
        return partial(_reconstruction_error, rec_loss=rec_loss)
    if name in LOCAL:
        assert memories is not None
        memory = memories[name]
        return lambda inputs: memory.scores(local_maps(name, inputs, backbone))
    if name == "weighted":
        return lambda inputs: knn.weighted_prototype(inputs.z, rows, k=k, temperature=temperature)
    return lambda inputs: knn.knn_angle(inputs.z, rows, k=k)


def local_maps(name: str, inputs: Inputs, backbone: Backbone | None) -> LocalMaps:
    """What a local score compares: maps of the network for ``local``, else of the backbone."""
    is_whole = name == "backbone"
    if is_whole:
        assert backbone is not None
        features = backbone.local_features(inputs.for_backbone)
    else:
        features = inputs.network.local_features(inputs.images)
    return LocalMaps(features, inputs.preprocessing.find_seen(inputs.grey, inputs.params, is_whole=is_whole))


def _reconstruction_error(inputs: Inputs, *, rec_loss: str) -> Tensor:
    error = inputs.recon - inputs.images
    return (error.abs() if rec_loss == "l1" else error.square()).mean(dim=(1, 2, 3))
