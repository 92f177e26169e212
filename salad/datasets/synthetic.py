"""Synthetic anomalies: soft opacities, nodules and effusions, drawn into the lungs of whole batches.

They teach an encoder what kind of difference counts; which disease they look like is not the point (Sato et al.,
AnatPaste, iScience 2023, and Li et al., CutPaste, CVPR 2021, draw theirs in other ways).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from salad.datasets.augment import to_network, uniform

LUNGS = ((0.2, 0.65), (-0.6, 0.7))  # how far from the middle to a side, and from top to bottom; half a side is 1
MOST = 3  # opacities of an image
COARSE = 5  # cells a side of the noise that bends outlines
BRIGHT = (0.57, 0.72)  # grey level that an opacity tends to


def corrupt(clean: Tensor) -> tuple[Tensor, Tensor]:
    """Draw an anomaly into half of the images, then change resolution, sharpness and noise of all of them.

    Mean and standard deviation of each image end as they were, so that what tells the halves apart has a place; and
    what is drawn may end as coarse as a small radiograph that was enlarged, so that its sharp edges do not tell it.

    Args:
        clean: grey, (B, 1, S, S) in [0, 1].

    Returns:
        The images, and how much of an anomaly there is at each place, in [0, 1]; both (B, 1, S, S).
    """
    changed, mask = add_anomalies(clean)
    is_drawn = uniform(clean, 0, 1) < 0.5
    images = sharpen_or_blur(coarsen(torch.where(is_drawn, changed, clean)), low=-1.2, high=1.0)
    images = images + torch.randn_like(images) * uniform(images, 0, 0.016)
    std, mean = torch.std_mean(clean, dim=(1, 2, 3), keepdim=True)
    own_std, own_mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
    return ((images - own_mean) / own_std.clamp(min=1e-6) * std + mean).clamp(0, 1), mask * is_drawn


def corrupt_views(clean: Tensor) -> tuple[Tensor, Tensor]:
    """As `corrupt`, of images as a network sees them, (B, 3, S, S) in [-1, 1]; the amounts are (B, 1, S, S)."""
    images, mask = corrupt((clean[:, :1] + 1) / 2)
    return to_network(images).contiguous(memory_format=torch.channels_last), mask


def coarsen(images: Tensor) -> Tensor:
    """Give about half of the images (B, 1, S, S) the resolution of smaller ones, down to a quarter of their side."""
    depth = uniform(images, -2, 2)  # 1: half the side, 2: a quarter
    halved = images.lerp(_shrunk(images, 2), depth.clamp(0, 1))
    return halved.lerp(_shrunk(images, 4), (depth - 1).clamp(0, 1))


def _shrunk(images: Tensor, factor: int) -> Tensor:
    """Images as they are after shrinking their side by a factor, and enlarging them again."""
    size = images.shape[-1]
    return F.interpolate(F.adaptive_avg_pool2d(images, max(1, size // factor)), (size, size), mode="bilinear")


def sharpen_or_blur(images: Tensor, *, low: float, high: float) -> Tensor:
    """Move each image (B, 1, S, S) towards its blurred self, 1 being there, or away from it, by a drawn share."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return torch.lerp(images, blurred, uniform(images, low, high))


def add_anomalies(images: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a synthetic anomaly into every image.

    Args:
        images: grey, (B, 1, S, S) in [0, 1], standardised as `--normalize standardize` does or nearly so.

    Returns:
        The images with an anomaly each, and how much of it there is at each place, in [0, 1]; both (B, 1, S, S).
    """
    kind = torch.rand(len(images), 1, 1, 1, device=images.device)
    opacities = _opacities(images, small=kind < 0.2)
    mask = torch.where(kind > 0.85, _effusion(images), opacities) * uniform(images, 0.25, 1.0) * _lung(images)
    texture = (1 + 0.35 * _noise(images, max(2, images.shape[-1] // 6))).clamp(0.3, 1.5)
    target = uniform(images, *BRIGHT)
    changed = images + (target - images).clamp(min=-0.05) * 0.8 * mask * texture
    return changed.clamp(0, 1), mask


def _opacities(images: Tensor, *, small: Tensor) -> Tensor:
    """One to three blobs of soft and uneven outline, or nodules where `small`."""
    rows, columns = _places(images)
    number = torch.randint(1, MOST + 1, (len(images), 1, 1, 1), device=images.device)
    mask = torch.zeros_like(images)
    for i in range(MOST):
        x = uniform(images, *LUNGS[0]) * torch.where(uniform(images, 0, 1) < 0.5, -1.0, 1.0)
        y, angle = uniform(images, *LUNGS[1]), uniform(images, 0, math.pi)
        width, height = (torch.where(small, uniform(images, 0.04, 0.1), uniform(images, 0.08, 0.45)) for _ in range(2))
        along = (columns - x) * angle.cos() + (rows - y) * angle.sin()
        across = (rows - y) * angle.cos() - (columns - x) * angle.sin()
        distance = torch.hypot(along / width, across / height) + 0.5 * _noise(images, COARSE)
        blob = torch.sigmoid(3 * (1 - distance) / uniform(images, 0.15, 0.8))
        mask = torch.maximum(mask, blob * (number > i))
    return mask


def _effusion(images: Tensor) -> Tensor:
    """One side filled from below, up to a level that rises towards the outer wall."""
    rows, columns = _places(images)
    side = torch.where(uniform(images, 0, 1) < 0.5, -1.0, 1.0)
    outwards = columns * side
    level = uniform(images, -0.1, 0.7) - uniform(images, 0, 0.5) * outwards.clamp(min=0) ** 2
    filled = torch.sigmoid((rows - level) / uniform(images, 0.03, 0.15))
    return filled * torch.sigmoid((outwards - 0.12) / 0.05)


def _lung(images: Tensor) -> Tensor:
    """Less of an anomaly where the neighbourhood is bright already: mediastinum, abdomen, and the middle of ribs."""
    return torch.sigmoid((0.62 - _shrunk(images, 4)) / 0.06)


def _noise(images: Tensor, cells: int) -> Tensor:
    """Smooth noise, (B, 1, S, S), with a standard deviation of 1 at its grid points."""
    noise = torch.randn(len(images), 1, cells, cells, device=images.device)
    return F.interpolate(noise, images.shape[-2:], mode="bicubic", align_corners=False)


def _places(images: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns in [-1, 1], (S, 1) and (S)."""
    place = torch.linspace(-1, 1, images.shape[-1], device=images.device)
    return place[:, None], place
