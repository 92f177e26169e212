"""Wrap a network so that the processes of a team train it together."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from salad.distributed.team import Team


def replicate(network: nn.Module, *, device: torch.device, team: Team, sync_bn: bool, all_used: bool) -> nn.Module:
    """Wrap a network for the training step, so that its gradients are averaged over the processes of a team.

    Args:
        network: network on the device; it keeps the weights, and is the one to evaluate and save.
        device: device of this process.
        team: processes that train together; all start from the weights of the first.
        sync_bn: whether batch norm uses the images of all processes, which needs GPUs; otherwise the running
            statistics are those of the first process.
        all_used: whether every weight gets a gradient in every step; if not, each step searches for weights without
            one, so that no process waits for their gradients.

    Returns:
        The wrapped network; for a team of one, and of a network without weights, the network itself.
    """
    if team.size == 1 or next(network.parameters(), None) is None:
        return network
    if sync_bn:
        # replaces layers inside the network: it keeps its names and weights
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        find_unused_parameters=not all_used,
    )
