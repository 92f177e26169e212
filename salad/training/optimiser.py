"""Optimiser and learning-rate schedule of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from salad.config import Config

if TYPE_CHECKING:
    pass


def make_optimizer(
    config: Config, network: torch.nn.Module, device: torch.device
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam or AMSGrad, and the schedule that is stepped once an epoch."""
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=config.lr,
        weight_decay=config.weight_decay,
        amsgrad=config.optimizer_name == "amsgrad",
        fused=device.type in ("cpu", "cuda"),
    )
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.lr_milestone), gamma=0.1)
