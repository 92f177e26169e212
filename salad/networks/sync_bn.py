"""Batch norm over the images of all processes of a run."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNormOnCPU(nn.BatchNorm2d):
    """What torch's SyncBatchNorm, which refuses to run on a CPU, would give there."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (B, C, H, W) per channel."""
        if not self.training:
            return super().forward(images)
        axes, shape = (0, 2, 3), (1, -1, 1, 1)
        values = images.to(self.weight.dtype)  # autocast may have made them bf16
        count = torch.tensor(float(values.numel() // values.shape[1]), dtype=values.dtype)
        dist.all_reduce(count)
        mean = _sum_over_ranks(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = _sum_over_ranks(centred.square().sum(axes)) / count
        assert self.momentum is not None and self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(images.dtype)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()  # every rank's loss depends on the sum
        dist.all_reduce(total)
        return total


def _sum_over_ranks(values: Tensor) -> Tensor:
    return _SumOverRanks.apply(values)  # type: ignore[no-any-return]


def synchronise(module: nn.Module, device: torch.device) -> None:
    """Replace every batch norm inside a module; weights and buffers, and their names, stay the same ones."""
    kind = SyncBatchNormOnCPU if device.type == "cpu" else nn.SyncBatchNorm
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            new = kind(child.num_features, eps=child.eps, momentum=child.momentum)
            new._parameters, new._buffers = child._parameters, child._buffers
            setattr(module, name, new.train(child.training))
        else:
            synchronise(child, device)
