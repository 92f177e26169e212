"""Augment whole batches on their device, each image differently.

Every transform is a torchvision v2 transform that draws its parameters separately for each image of a batch.
Geometry moves the content of an image; corruption degrades it. The network gets the image after both and has to
reconstruct the clean view: the image after the geometry and before the corruption.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

Params = dict[str, Any]


def to_network(grey: Tensor) -> Tensor:
    """Convert grey images (B, 1, S, S) in [0, 1] to network input (B, 3, S, S) in [-1, 1]."""
    return (grey * 2 - 1).expand(-1, 3, -1, -1)


class _PerImage(v2.Transform):  # type: ignore[misc]
    """Transform of grey batches (B, 1, S, S) in [0, 1] that changes each image with probability `chance`."""

    chance = 1.0

    def transform(self, inpt: Tensor, params: Params) -> Tensor:
        """Apply `change` to a random choice of the images."""
        changed = self.change(inpt)
        return changed if self.chance == 1 else torch.where(uniform(inpt, 0, 1) < self.chance, changed, inpt)

    def change(self, images: Tensor) -> Tensor:
        """Change every image, with parameters of its own."""
        raise NotImplementedError


def uniform(images: Tensor, low: float, high: float) -> Tensor:
    """Draw one random number per image, (B, 1, 1, 1), uniform in [low, high)."""
    return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high)


class HorizontalFlip(_PerImage):
    """Mirror half of the images left to right."""

    chance = 0.5

    def change(self, images: Tensor) -> Tensor:
        """Mirror every image."""
        return images.flip(-1)


class CropAndRotate(_PerImage):
    """Random resized crop (a share of the side in [0.75, 1]) and rotation (up to 8 degrees)."""

    def change(self, images: Tensor) -> Tensor:
        """Draw a window for each image and resample it bilinearly; pixels outside the image repeat its border."""
        scale = uniform(images, 0.75, 1.0).flatten()
        angle = uniform(images, -1, 1).flatten() * math.radians(8)
        shift_x, shift_y = (uniform(images, -1, 1).flatten() * (1 - scale) for _ in range(2))
        cosine, sine = scale * angle.cos(), scale * angle.sin()
        theta = torch.stack([cosine, -sine, shift_x, sine, cosine, shift_y], dim=1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def expose(images: Tensor, *, gamma: tuple[float, float], contrast: tuple[float, float], brightness: float) -> Tensor:
    """Simulate other exposures with random gamma, contrast and brightness per image.

    Args:
        images: grey, (B, 1, S, S) in [0, 1].
        gamma: range of the exponent, drawn on a logarithmic scale.
        contrast: range of the factor by which deviations from the mean of an image are multiplied.
        brightness: largest grey level that is added or subtracted.

    Returns:
        Images of the same shape; values may leave [0, 1].
    """
    images = images.clamp(min=1e-6) ** uniform(images, math.log(gamma[0]), math.log(gamma[1])).exp()
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * uniform(images, *contrast) + mean + uniform(images, -brightness, brightness)


class IntensityJitter(_PerImage):
    """Random gamma, contrast and brightness, as from another exposure."""

    def change(self, images: Tensor) -> Tensor:
        """Draw gamma in [0.7, 1.4], contrast in [0.75, 1.25], brightness in [-0.1, 0.1]."""
        return expose(images, gamma=(0.7, 1.4), contrast=(0.75, 1.25), brightness=0.1).clamp(0, 1)


class Blur(_PerImage):
    """Gaussian blur with a standard deviation of up to 1.5 % of the side."""

    chance = 0.3

    def change(self, images: Tensor) -> Tensor:
        """Convolve every image with its own kernel, first along one axis, then along the other."""
        sigma = uniform(images, 0.003, 0.015) * images.shape[-1]
        reach = max(1, math.ceil(0.03 * images.shape[-1]))
        offsets = torch.arange(-reach, reach + 1, device=images.device)
        kernels = (-0.5 * (offsets / sigma) ** 2).softmax(dim=-1)  # (B, 1, 1, K), sums to one
        stacked = F.pad(images.transpose(0, 1), [reach] * 4, mode="replicate")  # (1, B, ...): one group per image
        stacked = F.conv2d(stacked, kernels, groups=len(images))
        return F.conv2d(stacked, kernels.mT, groups=len(images)).transpose(0, 1)


class Noise(_PerImage):
    """Gaussian noise with a standard deviation of up to 0.06."""

    chance = 0.3

    def change(self, images: Tensor) -> Tensor:
        """Add noise with a standard deviation drawn for each image."""
        return (images + uniform(images, 0.01, 0.06) * torch.randn_like(images)).clamp(0, 1)


class Cutout(_PerImage):
    """Paint a rectangle of 10 to 30 % of each side in one grey level (DeVries and Taylor, 2017)."""

    chance = 0.5

    def change(self, images: Tensor) -> Tensor:
        """Draw a centre, two sides and a grey level for each image."""
        axis = torch.linspace(0, 1, images.shape[-1], device=images.device)
        rows, columns = axis.view(1, 1, -1, 1), axis.view(1, 1, 1, -1)
        inside_rows = (rows - uniform(images, 0, 1)).abs() < uniform(images, 0.05, 0.15)
        inside_columns = (columns - uniform(images, 0, 1)).abs() < uniform(images, 0.05, 0.15)
        return torch.where(inside_rows & inside_columns, uniform(images, 0, 1), images)


class LocalPixelShuffle(_PerImage):
    """Permute the pixels within small blocks (Zhou et al., Models Genesis, MICCAI 2019); no effect below 32 pixels."""

    chance = 0.5
    block_share = 0.25  # of the blocks of an image, on average

    def change(self, images: Tensor) -> Tensor:
        """Split into blocks of about 1/16 of the side, shuffle the pixels of some blocks, and reassemble."""
        size = images.shape[-1]
        side = next(side for side in range(max(1, size // 16), 0, -1) if size % side == 0)
        blocks = F.unfold(images, side, stride=side)  # (B, side * side, number of blocks)
        order = torch.rand_like(blocks).argsort(dim=1)
        chosen = torch.rand_like(blocks[:, :1]) < self.block_share
        shuffled = torch.where(chosen, blocks.gather(1, order), blocks)
        return F.fold(shuffled, (size, size), side, stride=side)


@dataclass(frozen=True)
class Augmentation:
    """Pair of geometry and corruption; each maps a grey batch (B, 1, S, S) in [0, 1] to another."""

    geometry: Callable[[Tensor], Tensor]
    corruption: Callable[[Tensor], Tensor]

    def views(self, grey: Tensor, *, num_views: int) -> tuple[Tensor, Tensor]:
        """Make augmented views of a batch, and the clean views to reconstruct from them.

        Args:
            grey: decoded images (B, 1, S, S), uint8.
            num_views: V, number of views per image.

        Returns:
            Inputs and targets, both (B * V, 3, S, S) in [-1, 1]; index b * V + v is view v of image b.
        """
        clean = self.geometry(grey.repeat_interleave(num_views, dim=0) / 255)
        return to_network(self.corruption(clean)), to_network(clean)


AUGMENTATIONS = {
    "flip": Augmentation(HorizontalFlip(), v2.Identity()),
    "ssl": Augmentation(
        v2.Compose([HorizontalFlip(), CropAndRotate()]),
        v2.Compose([IntensityJitter(), Blur(), Noise(), LocalPixelShuffle(), Cutout()]),
    ),
}
