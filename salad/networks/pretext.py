"""A head that finds synthetic anomalies in local features; it trains an encoder and is not kept for scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from salad.networks.layers import at_least_float32

if TYPE_CHECKING:
    from salad.networks import Network


class WithPretext(nn.Module):
    """A network together with the head, as one module that several processes can share.

    Args:
        network: whose local features the head looks at.
        num_channels: of these.
    """

    def __init__(self, network: Network, *, num_channels: int) -> None:
        super().__init__()
        self.network = network
        self.places = nn.Conv2d(num_channels, 1, 1)
        self.image = nn.Linear(num_channels, 1)

    def forward(self, inputs: Tensor | None, spoilt: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor]:
        """Run the network on views and, up to its local features, on images of which some hold an anomaly.

        Args:
            inputs: views, (B, 3, S, S) in [-1, 1]; None where no loss needs them.
            spoilt: (B, 3, S, S) in [-1, 1].

        Returns:
            Embeddings and reconstructions of the views, or None, and logits that there is an anomaly: at each place
            (B, 1, S/8, S/8), and in the image (B,).
        """
        z, recon = (None, None) if inputs is None else self.network(inputs)
        features = self.network.local_features(spoilt)
        in_image = self.image(features.mean(dim=(2, 3)))[:, 0]
        return z, recon, at_least_float32(self.places(features)), at_least_float32(in_image)
