"""What is trained: a network and, where it is to find synthetic anomalies, a head that scoring does without."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from salad.networks import network_spec
from salad.networks.layers import at_least_float32

if TYPE_CHECKING:
    from salad.config import Config
    from salad.networks import Network


class Found(NamedTuple):
    """Logits that there is an anomaly: at each place (B, 1, S/8, S/8), and in the image (B,)."""

    at_places: Tensor
    in_image: Tensor


class Head(nn.Module):
    """Looks for synthetic anomalies in local features.

    Args:
        num_channels: of these.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.places = nn.Conv2d(num_channels, 1, 1)
        self.image = nn.Linear(num_channels, 1)

    def forward(self, features: Tensor) -> Found:
        """Of local features (B, C, S/8, S/8)."""
        in_image = self.image(features.mean(dim=(2, 3)))[:, 0]
        return Found(at_least_float32(self.places(features)), at_least_float32(in_image))


class Trained(nn.Module):
    """A network and its head as one module, which several processes can share.

    Args:
        network: the place of the weights.
        head: None where there is no loss that needs one.
        embeds: whether a loss needs embeddings; with reconstructions they are there anyway.
        decodes: whether a loss needs reconstructions.
        uses_all: whether every weight has a part in the loss of every step.
    """

    def __init__(
        self, network: Network, head: Head | None, *, embeds: bool = True, decodes: bool, uses_all: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.head = head
        self.embeds = embeds
        self.decodes = decodes
        self.uses_all = uses_all

    def forward(self, inputs: Tensor, spoilt: Tensor | None) -> tuple[Tensor | None, Tensor | None, Found | None]:
        """Embeddings (B, D) and reconstructions of views (B, 3, S, S), and what is found in other, spoilt images.

        Each is None where no loss needs it, and what is found is None without a head.
        """
        z: Tensor | None = None
        recon: Tensor | None = None
        if self.decodes:
            z, recon = self.network(inputs)
        elif self.embeds:
            z = self.network.encode(inputs)
        found = None if self.head is None or spoilt is None else self.head(self.network.local_features(spoilt))
        return z, recon, found


def make_trained(network: Network, config: Config, device: torch.device) -> Trained:
    """What a run trains: the network, with a head where --w_syn asks for one."""
    spec = network_spec(config.net_name)
    head = Head(network.num_local_channels).to(device) if config.w_syn > 0 else None
    embeds = config.w_contrast + config.w_svdd > 0
    reaches_z = embeds and config.pre_training_epochs == 0
    uses_all = config.w_rec > 0 and (reaches_z or spec.decodes_embedding)
    uses_all = uses_all and (head is None or config.pre_training_epochs == 0)
    return Trained(network, head, embeds=embeds, decodes=config.w_rec > 0, uses_all=uses_all)
