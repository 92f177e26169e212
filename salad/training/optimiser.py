"""Trained module, optimiser and learning-rate schedule of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from salad.config import Config
from salad.losses import ANOMALY_HEAD, EMBEDDINGS, RECONSTRUCTION
from salad.networks import NETWORKS
from salad.networks.anomaly_head import AnomalyHead, TrainedModule

if TYPE_CHECKING:
    from salad.networks import Network


def make_trained(network: Network, config: Config, device: torch.device) -> TrainedModule:
    """Make the module to train: the network and, if a loss needs it, the anomaly head."""
    loss, has_pre_training = config.loss, config.optimisation.pre_training_epochs > 0
    has_head = config.trains and loss.trains(ANOMALY_HEAD)
    head = AnomalyHead(network.num_patch_channels).to(device) if has_head else None
    embeds, decodes = loss.trains(EMBEDDINGS), loss.trains(RECONSTRUCTION)
    reaches_z = (embeds and not has_pre_training) or NETWORKS[config.network.net_name].decodes_embedding
    uses_all = decodes and reaches_z and not (head is not None and has_pre_training)
    return TrainedModule(network, head, embeds=embeds, decodes=decodes, uses_all=uses_all)


def make_optimizer(
    config: Config, network: torch.nn.Module, device: torch.device
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Make the optimiser (Adam or AMSGrad) and the learning-rate schedule, to be stepped once an epoch."""
    optimizer = torch.optim.Adam(
        [{"params": list(network.parameters())}],  # none in a run without training
        lr=config.optimisation.lr,
        weight_decay=config.optimisation.weight_decay,
        amsgrad=config.optimisation.optimizer_name == "amsgrad",
        fused=device.type in ("cpu", "cuda"),
    )
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.optimisation.lr_milestone), gamma=0.1)
