"""Anomaly head: finds synthetic anomalies in patch features during training; scoring does without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from salad.networks.layers import at_least_float32

if TYPE_CHECKING:
    from salad.networks import Network


class AnomalyLogits(NamedTuple):
    """Logits that there is an anomaly: in each grid cell (B, 1, S/8, S/8), and in the image (B,)."""

    cells: Tensor
    image: Tensor


class AnomalyHead(nn.Module):
    """Finds synthetic anomalies in patch features.

    Args:
        num_channels: of these.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.places = nn.Conv2d(num_channels, 1, 1)  # the names are those of files
        self.image = nn.Linear(num_channels, 1)

    def forward(self, features: Tensor) -> AnomalyLogits:
        """Compute logits from patch features (B, C, S/8, S/8)."""
        of_image = self.image(features.mean(dim=(2, 3)))[:, 0]
        return AnomalyLogits(at_least_float32(self.places(features)), at_least_float32(of_image))


class TrainedModule(nn.Module):
    """A network and its anomaly head as one module, which several processes can share.

    Args:
        network: holds the weights that are evaluated and saved.
        head: None where no loss needs one.
        embeds: whether a loss needs embeddings; with reconstructions they are there anyway.
        decodes: whether a loss needs reconstructions.
        uses_all: whether every weight has a part in the loss of every step.
    """

    def __init__(
        self, network: Network, head: AnomalyHead | None, *, embeds: bool = True, decodes: bool, uses_all: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.head = head
        self.embeds = embeds
        self.decodes = decodes
        self.uses_all = uses_all

    def forward(
        self, inputs: Tensor, corrupted: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, AnomalyLogits | None]:
        """Compute embeddings (B, D) and reconstructions of views (B, 3, S, S), and logits of corrupted images.

        Each is None where no loss needs it, and the logits are None without a head.
        """
        z: Tensor | None = None
        recon: Tensor | None = None
        if self.decodes:
            z, recon = self.network(inputs)
        elif self.embeds:
            z = self.network.encode(inputs)
        if self.head is None or corrupted is None:
            return z, recon, None
        return z, recon, self.head(self.network.patch_features(corrupted))
