"""Where an image is unlike normal ones, as maps of its size, and such maps as colours over the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTHING = 1 / 32  # standard deviation of the Gaussian as a share of S: 8 pixels of 256, the step of local features
REACH = 3  # standard deviations at which the Gaussian is cut off
MIN_NORMALS = 10  # fewer images say little about how an error usually varies
LEAST_STD = 0.1  # of a place, as a share of the mean over all places: borders that never change would make noise large
# From dark purple over orange to light yellow, five stops of the colour map "inferno" (CC0): its lightness rises
# steadily and it has no red beside green, so it reads the same to colour-blind people and in print.
COLOURS = np.array([[66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]], np.float32)
MOST_OPAQUE = 0.75  # so that the film is seen through the strongest colour, too


def smooth(maps: Tensor) -> Tensor:
    """Blur maps (B, S, S) by a Gaussian with a standard deviation of S / 32 pixels; edges are repeated outwards."""
    sigma = maps.shape[-1] * SMOOTHING
    reach = max(1, math.ceil(REACH * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    weights = torch.softmax(-steps.square() / (2 * sigma**2), dim=0)
    padded = F.pad(maps[:, None], (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, weights[None, None, None, :])
    return F.conv2d(rows, weights[None, None, :, None])[:, 0]


def error_maps(images: Tensor, recon: Tensor) -> Tensor:
    """Smoothed absolute reconstruction error: (B, 3, S, S) in [-1, 1], twice -> (B, S, S), in [0, 2]."""
    return smooth((recon - images).abs().mean(dim=1))


@dataclass(frozen=True)
class ErrorLevels:
    """How large the error of normal images, or another value, is at each place, and how much it varies.

    Attributes:
        mean: (S, S).
        std: (S, S), above 0.
    """

    mean: Tensor
    std: Tensor

    def deviations(self, maps: Tensor) -> Tensor:
        """Maps (B, S, S) in standard deviations above the mean at the same place."""
        return (maps - self.mean) / self.std


class Levels:
    """Mean and standard deviation at each place, of maps that come in batches and are not kept.

    The moments run as in Chan, Golub and LeVeque (1979), which loses no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())  # of the differences from the mean

    def add(self, maps: Tensor) -> None:
        """Count some maps, (B, S, S)."""
        total = self.count + len(maps)
        of_batch = maps.mean(dim=0)
        difference = of_batch - self.mean.to(maps)
        squares = (maps - of_batch).square().sum(dim=0) + difference.square() * (self.count * len(maps) / total)
        self.mean = self.mean.to(maps) + difference * (len(maps) / total)
        self.squares = self.squares.to(maps) + squares
        self.count = total

    def measured(self, *, least: int = MIN_NORMALS) -> ErrorLevels | None:
        """The levels; None of fewer maps than `least`, which is 2 at least.

        A standard deviation that is far below that of most places is raised to a tenth of their mean.
        """
        if self.count < least:
            return None
        std = (self.squares / (self.count - 1)).sqrt()
        return ErrorLevels(self.mean, std.clamp(min=max(LEAST_STD * float(std.mean()), 1e-6)))


def memory_maps(features: Tensor, normal: Tensor, neighbours: Tensor, *, isize: int) -> Tensor:
    """How far local features are from the nearest of those that similar normal images have at the same place.

    Args:
        features: of the images, (B, C, H, W).
        normal: of some normal images, (M, C, H, W).
        neighbours: which of these an image is compared with, (B, K), in 0..M-1.
        isize: S, the size of the maps.

    Returns:
        One minus the largest cosine, (B, S, S), in [0, 2]; bilinear between the places.
    """
    features, normal = F.normalize(features, dim=1), F.normalize(normal, dim=1)
    cosines = [  # of one image at a time: its neighbours' features are not copied for all
        torch.einsum("chw,kchw->khw", one, normal[index]).amax(dim=0)
        for one, index in zip(features, neighbours, strict=True)
    ]
    maps = (1 - torch.stack(cosines)).clamp(min=0)
    return F.interpolate(maps[:, None], size=(isize, isize), mode="bilinear")[:, 0]


def overlay(pixels: np.ndarray, heat: np.ndarray, *, between: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """A map in colour over its image; the same value has the same colour in every image.

    Args:
        pixels: (S, S), uint8.
        heat: (S, S).
        between: up to the first value the image is left as it is, from the second on the colour no longer changes.

    Returns:
        (S, S, 3), uint8.
    """
    low, high = between
    share = np.clip((heat - low) / (high - low), 0, 1).astype(np.float32)
    opacity = MOST_OPAQUE * np.sqrt(share)[..., None]
    grey = np.repeat(pixels[..., None].astype(np.float32), 3, axis=2)
    return np.rint(grey + opacity * (colours(share) - grey)).astype(np.uint8)


def colours(share: np.ndarray) -> np.ndarray:
    """The colour of values in [0, 1], in 0..255: (...) -> (..., 3)."""
    places = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(share, places, channel) for channel in COLOURS.T], axis=-1).astype(np.float32)
