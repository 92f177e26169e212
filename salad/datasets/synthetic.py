"""Draw synthetic anomalies into the lungs of whole batches: opacities, nodules, effusions, reticular texture and haze.

They teach an encoder to separate anomalies from normal variation, and need not look like a particular disease. Other
ways to draw them: Sato et al., AnatPaste, iScience 2023; Li et al., CutPaste, CVPR 2021.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from salad.datasets.augment import to_network, uniform

LUNGS = ((0.2, 0.65), (-0.6, 0.7))  # ranges of horizontal distance from the middle, and of y; half a side is 1
MAX_OPACITIES = 3  # per image
COARSE = 5  # grid size of the noise that deforms outlines
BRIGHT = (0.57, 0.72)  # range of the grey level of an opacity


def corrupt(clean: Tensor) -> tuple[Tensor, Tensor]:
    """Draw an anomaly into half of the images, then change resolution, sharpness and noise of all of them.

    Each image keeps its mean and standard deviation, so that only local differences reveal an anomaly. The random
    resolution blurs the outlines of some anomalies, so that sharp edges alone do not reveal them either.

    Args:
        clean: grey images (B, 1, S, S) in [0, 1], in random order: the first half gets the anomalies.

    Returns:
        The corrupted images, and the anomaly mask: strength of the anomaly at each pixel, in [0, 1], and 0
        everywhere in an image without one. Both (B, 1, S, S).
    """
    images, mask = clean.clone(), torch.zeros_like(clean)
    for draw, part in zip(KINDS, _parts(len(clean)), strict=True):
        if part.start < part.stop:
            images[part], mask[part] = draw(clean[part])
    images = sharpen_or_blur(coarsen(images), low=-1.2, high=1.0)
    images = images + torch.randn_like(images) * uniform(images, 0, 0.016)
    std, mean = torch.std_mean(clean, dim=(1, 2, 3), keepdim=True)
    own_std, own_mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
    return ((images - own_mean) / own_std.clamp(min=1e-6) * std + mean).clamp(0, 1), mask


def _parts(count: int) -> list[slice]:
    """Divide the first half of `count` images among the kinds by their shares, rounded at random."""
    start = float(torch.rand(1).numpy()[0])  # on the CPU, so that a GPU need not be waited for
    ends = [int(start + count / 2 * end) for end in itertools.accumulate(KINDS.values())]
    return [slice(*ends) for ends in itertools.pairwise([0, *ends])]


def corrupt_views(clean: Tensor) -> tuple[Tensor, Tensor]:
    """Corrupt network input by `corrupt`.

    Args:
        clean: images (B, 3, S, S) in [-1, 1], three equal channels.

    Returns:
        The corrupted images (B, 3, S, S) in [-1, 1], and the anomaly mask (B, 1, S, S) in [0, 1].
    """
    images, mask = corrupt((clean[:, :1] + 1) / 2)
    return to_network(images).contiguous(memory_format=torch.channels_last), mask


def coarsen(images: Tensor) -> Tensor:
    """Reduce the resolution of about half of the images (B, 1, S, S), down to a quarter of their side."""
    depth = uniform(images, -2, 2)  # 1 halves the side, 2 quarters it
    halved = images.lerp(_shrunk(images, 2), depth.clamp(0, 1))
    return halved.lerp(_shrunk(images, 4), (depth - 1).clamp(0, 1))


def _shrunk(images: Tensor, factor: int) -> Tensor:
    """Shrink the side of the images by a factor, then enlarge them to their size."""
    size = images.shape[-1]
    return F.interpolate(F.adaptive_avg_pool2d(images, max(1, size // factor)), (size, size), mode="bilinear")


def sharpen_or_blur(images: Tensor, *, low: float, high: float) -> Tensor:
    """Blur or sharpen each image at random, by interpolation between the image and its 3x3 mean.

    Args:
        images: grey images (B, 1, S, S).
        low: smallest weight of the blurred image; negative weights sharpen.
        high: largest weight; 1 gives the blurred image.

    Returns:
        Images of the same shape; values may leave [0, 1].
    """
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return torch.lerp(images, blurred, uniform(images, low, high))


def opacities(images: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one to three soft opacities into the lungs of each image.

    Args:
        images: grey images (B, 1, S, S) in [0, 1], standardised about as `--normalize standardize` does.

    Returns:
        The images with their anomalies, in [0, 1], and the strength of the anomaly at each pixel, in [0, 1]; both
        (B, 1, S, S).
    """
    return _filled(images, _blobs(images, size=(0.08, 0.45)))


def nodules(images: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one to three nodules; see `opacities`."""
    return _filled(images, _blobs(images, size=(0.04, 0.1)))


def effusion(images: Tensor) -> tuple[Tensor, Tensor]:
    """Draw an effusion; see `opacities`."""
    return _filled(images, _effusion(images))


def reticular(images: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a net of fine lines into parts of the lungs, as interstitial disease shows; see `opacities`."""
    mask = _blobs(images, size=(0.15, 0.6)) * uniform(images, 0.4, 1.0) * _lung(images)
    size = images.shape[-1]
    waves = 0.6 * _noise(images, max(2, size // 3)) + 0.6 * _noise(images, max(2, size // 5))
    waves = waves + 0.4 * _noise(images, max(2, size // 9))
    lines = (1 - uniform(images, 1, 2) * waves.abs()).clamp(-1, 1)
    changed = images + mask * (uniform(images, 0.05, 0.16) * lines + uniform(images, -0.01, 0.08))
    return changed.clamp(0, 1), mask


def haze(images: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a veil over wide parts of one lung or both, under which details fade; see `opacities`."""
    _, columns = _coordinates(images)
    outwards = columns * torch.where(uniform(images, 0, 1) < 0.5, -1.0, 1.0)
    mask = torch.sigmoid(3 * (_noise(images, 3) + uniform(images, -0.5, 1)))
    mask = mask * torch.where(uniform(images, 0, 1) < 0.5, torch.sigmoid(outwards / 0.05), 1.0) * _lung(images)
    strength = uniform(images, 0.15, 0.7)
    faded = sharpen_or_blur(sharpen_or_blur(images, low=0, high=1), low=0, high=1)
    veiled = faded + strength * (uniform(images, 0.5, 0.65) - faded).clamp(min=0)
    return images.lerp(veiled, mask), mask * strength


KINDS = {opacities: 0.45, nodules: 0.15, effusion: 0.13, reticular: 0.15, haze: 0.12}  # and their shares


def _filled(images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Lighten the lungs under a mask in [0, 1], unevenly."""
    mask = mask * uniform(images, 0.25, 1.0) * _lung(images)
    texture = (1 + 0.35 * _noise(images, max(2, images.shape[-1] // 6))).clamp(0.3, 1.5)
    changed = images + (uniform(images, *BRIGHT) - images).clamp(min=-0.05) * 0.8 * mask * texture
    return changed.clamp(0, 1), mask


def _blobs(images: Tensor, *, size: tuple[float, float]) -> Tensor:
    """Draw one to three blobs of a range of half axes, with soft, uneven outlines, per image; a mask in [0, 1]."""
    rows, columns = _coordinates(images)
    number = torch.randint(1, MAX_OPACITIES + 1, (len(images), 1, 1, 1), device=images.device)
    mask = torch.zeros_like(images)
    for i in range(MAX_OPACITIES):
        x = uniform(images, *LUNGS[0]) * torch.where(uniform(images, 0, 1) < 0.5, -1.0, 1.0)
        y, angle = uniform(images, *LUNGS[1]), uniform(images, 0, math.pi)
        width, height = uniform(images, *size), uniform(images, *size)
        along = (columns - x) * angle.cos() + (rows - y) * angle.sin()
        across = (rows - y) * angle.cos() - (columns - x) * angle.sin()
        distance = torch.hypot(along / width, across / height) + 0.5 * _noise(images, COARSE)
        blob = torch.sigmoid(3 * (1 - distance) / uniform(images, 0.15, 0.8))
        mask = torch.maximum(mask, blob * (number > i))
    return mask


def _effusion(images: Tensor) -> Tensor:
    """Fill one lung from below, up to a level that rises towards the chest wall; return a mask in [0, 1]."""
    rows, columns = _coordinates(images)
    side = torch.where(uniform(images, 0, 1) < 0.5, -1.0, 1.0)
    outwards = columns * side
    level = uniform(images, -0.1, 0.7) - uniform(images, 0, 0.5) * outwards.clamp(min=0) ** 2
    filled = torch.sigmoid((rows - level) / uniform(images, 0.03, 0.15))
    return filled * torch.sigmoid((outwards - 0.12) / 0.05)


def _lung(images: Tensor) -> Tensor:
    """Mask that weakens an anomaly in bright surroundings, such as mediastinum, abdomen and ribs; in [0, 1]."""
    return torch.sigmoid((0.62 - _shrunk(images, 4)) / 0.06)


def _noise(images: Tensor, cells: int) -> Tensor:
    """Draw smooth noise (B, 1, S, S), with a standard deviation of 1 at its grid points."""
    noise = torch.randn(len(images), 1, cells, cells, device=images.device)
    return F.interpolate(noise, images.shape[-2:], mode="bicubic", align_corners=False)


def _coordinates(images: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of rows (S, 1) and columns (S,), in [-1, 1]."""
    axis = torch.linspace(-1, 1, images.shape[-1], device=images.device)
    return axis[:, None], axis
