"""Network that the processes of a team train together."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from salad.distributed.team import Team


def replicate(network: nn.Module, *, device: torch.device, team: Team, sync_bn: bool, all_used: bool) -> nn.Module:
    """Wrap a network for the training step, so that its gradients become the mean over the processes of a team.

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
