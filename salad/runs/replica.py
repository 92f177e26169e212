"""The network as the processes of a team train it together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from salad.networks import network_spec
from salad.networks.pretext import Head, Trained
from salad.runs.distributed import Team

if TYPE_CHECKING:
    from salad.config import Config
    from salad.networks import Network


def replicate(network: nn.Module, *, device: torch.device, team: Team, sync_bn: bool, all_used: bool) -> nn.Module:
    """The network as a training step calls it: its gradients become the mean over the processes of a team.

    Args:
        network: on the device; it stays the place of the weights, and is what is evaluated and saved.
        device: of this process.
        team: all of its processes get the first one's weights.
        sync_bn: whether batch norm sees the images of all processes, which works on GPUs alone; else running
            statistics are the first's.
        all_used: whether every weight gets a gradient in every step; else no process waits for those that get none.
    """
    if team.size == 1:
        return network
    if sync_bn:
        # layer by layer, in place: names and weights stay
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        find_unused_parameters=not all_used,
    )


def make_trained(network: Network, config: Config, device: torch.device) -> Trained:
    """What a run trains: the network, with a head where --w_syn asks for one."""
    spec = network_spec(config.net_name)
    head = Head(network.num_local_channels).to(device) if config.w_syn > 0 else None
    embeds = config.w_contrast + config.w_svdd > 0
    reaches_z = embeds and config.pre_training_epochs == 0
    uses_all = config.w_rec > 0 and (reaches_z or spec.decodes_embedding)
    uses_all = uses_all and (head is None or config.pre_training_epochs == 0)
    return Trained(network, head, embeds=embeds, decodes=config.w_rec > 0, uses_all=uses_all)
