"""Anomaly head: detects synthetic anomalies in patch features during training; not used for scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from salad.networks.layers import at_least_float32

if TYPE_CHECKING:
    from salad.networks import Network


class AnomalyLogits(NamedTuple):
    """Logits of an anomaly in each grid cell (B, 1, S/8, S/8) and in the image (B,)."""

    cells: Tensor
    image: Tensor


class AnomalyHead(nn.Module):
    """Linear classifier of patch features, per grid cell and per image.

    Args:
        num_channels: C, number of channels of the patch features.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.places = nn.Conv2d(num_channels, 1, 1)  # checkpoints contain these attribute names
        self.image = nn.Linear(num_channels, 1)

    def forward(self, features: Tensor) -> AnomalyLogits:
        """Compute logits from patch features (B, C, S/8, S/8)."""
        in_image = self.image(features.mean(dim=(2, 3)))[:, 0]
        return AnomalyLogits(at_least_float32(self.places(features)), at_least_float32(in_image))


class TrainedModule(nn.Module):
    """Network and anomaly head in one module, for distributed training.

    Args:
        network: network whose weights are evaluated and saved.
        head: anomaly head; None if no loss needs it.
        embeds: True if a loss needs embeddings; with `decodes` they are always computed.
        decodes: True if a loss needs reconstructions.
        uses_all: True if every weight affects the loss of every step.
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
        """Compute the outputs that the losses need; an output that no loss needs is None.

        Args:
            inputs: augmented views (B, 3, S, S) in [-1, 1].
            corrupted: images with synthetic anomalies (B', 3, S, S) in [-1, 1], or None.

        Returns:
            Embeddings (B, D) and reconstructions (B, 3, S, S) of the views, and anomaly logits of the corrupted
            images.
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
