"""Layers shared by both networks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains on a single value per channel.

    One image on a 1x1 grid has no batch statistics, so its running statistics are used. Thus a batch of one image
    works at every image size.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Normalise each channel of (B, C, H, W)."""
        if self.training and images.numel() == images.shape[1]:
            return F.batch_norm(images, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(images)


def at_least_float32(maps: Tensor) -> Tensor:
    """Convert half precision, the output of autocast, to float32; return other types unchanged."""
    return maps.float() if maps.dtype in (torch.bfloat16, torch.float16) else maps


def join_stages(fine: Tensor, coarse: Tensor) -> Tensor:
    """Join maps of two stages: average (B, F, 2H, 2W) over 2 x 2, append (B, C, H, W), return (B, F + C, H, W)."""
    return torch.cat([F.avg_pool2d(at_least_float32(fine), 2), at_least_float32(coarse)], dim=1)


def upsample(images: Tensor) -> Tensor:
    """Double height and width by bilinear interpolation with aligned corners."""
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=True)
