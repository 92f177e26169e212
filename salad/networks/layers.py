"""Layers that both networks share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains on a single value a channel.

    One image on a 1x1 grid has no batch statistics: there the running ones are used, so that a batch of
    one works at every image size.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (B, C, H, W) per channel."""
        if self.training and images.numel() == images.shape[1]:
            return F.batch_norm(images, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(images)


def at_least_float32(maps: Tensor) -> Tensor:
    """What leaves a network: half precision, as autocast leaves it, becomes float32; all else stays."""
    return maps.float() if maps.dtype in (torch.bfloat16, torch.float16) else maps


def join_stages(fine: Tensor, coarse: Tensor) -> Tensor:
    """Maps of two stages as one: (B, F, 2H, 2W), averaged over 2 x 2, and (B, C, H, W) -> (B, F + C, H, W)."""
    return torch.cat([F.avg_pool2d(at_least_float32(fine), 2), at_least_float32(coarse)], dim=1)


def upsample(images: Tensor) -> Tensor:
    """Double height and width, bilinear with aligned corners."""
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=True)
