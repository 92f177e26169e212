"""The network as the processes of a team train it together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from salad.distributed import Team
from salad.networks.sync_bn import synchronise


class _UsedOutputs(nn.Module):
    """A network whose outputs are cut off where no loss is made of them: for their weights no process must wait."""

    def __init__(self, network: nn.Module, used: Callable[[], tuple[bool, bool]]) -> None:
        super().__init__()
        self.network = network
        self.used = used

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same as of the network."""
        z, recon = self.network(images)
        uses_z, uses_recon = self.used()
        return z if uses_z else z.detach(), recon if uses_recon else recon.detach()


def replicate(
    network: nn.Module,
    *,
    device: torch.device,
    team: Team,
    sync_bn: bool,
    used: Callable[[], tuple[bool, bool]],
    all_used: bool,
) -> nn.Module:
    """The network as a training step calls it: its gradients become the mean over the processes of a team.

    Args:
        network: on the device; it stays the place of the weights, and is what is evaluated and saved.
        device: of this process.
        team: all of its processes get the first one's weights.
        sync_bn: whether batch norm sees the images of all processes; else running statistics are the first's.
        used: whether the loss of the step under way is made of the embeddings, and of the reconstructions.
        all_used: whether every weight gets a gradient in every step.
    """
    if team.size == 1:
        return network
    if sync_bn:
        synchronise(network, device)
    return DistributedDataParallel(
        network if all_used else _UsedOutputs(network, used),
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        find_unused_parameters=not all_used,
    )
