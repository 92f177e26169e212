"""Compute heatmaps of the size of an image, standardise them, and draw them in colour over the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SMOOTHING = 1 / 32  # standard deviation of the Gaussian as a share of S: 8 pixels of 256, the step of patch features
REACH = 3  # standard deviations at which the Gaussian is cut off
MIN_NORMALS = 10  # fewer images are too few to estimate a standard deviation
LEAST_STD = 0.1  # of a pixel, as a share of the mean over all pixels: constant borders would blow up noise
# From dark purple over orange to light yellow, five stops of the colour map "inferno" (CC0): its lightness rises
# steadily and it has no red next to green, so it reads the same to colour-blind people and in print.
COLOURS = np.array([[66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]], np.float32)
MOST_OPAQUE = 0.75  # below 1, so that the film shines through the strongest colour
# The layer of a score map, by the share v / (v + t) of a value v at a threshold t: nothing is drawn up to the first
# end, and from the second on nothing becomes stronger.
SOFT_SHARES, SOFT_OPAQUE = (0.38, 0.62), 0.5
SOFT_COLOURS = np.array([[255, 205, 60], [255, 120, 20], [225, 25, 70]], np.float32)  # yellow, orange, crimson
CONTOUR, CONTOUR_OPAQUE = (255, 236, 160), 0.9  # of the line where a map exceeds its threshold


def smooth(maps: Tensor) -> Tensor:
    """Blur maps, (B, S, S), by a Gaussian with a standard deviation of S / 32 pixels; edge pixels are replicated."""
    sigma = maps.shape[-1] * SMOOTHING
    reach = max(1, math.ceil(REACH * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    weights = torch.softmax(-steps.square() / (2 * sigma**2), dim=0)
    padded = F.pad(maps[:, None], (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, weights[None, None, None, :])
    return F.conv2d(rows, weights[None, None, :, None])[:, 0]


def error_maps(images: Tensor, recon: Tensor) -> Tensor:
    """Compute the smoothed absolute reconstruction error.

    Args:
        images: (B, 3, S, S), in [-1, 1].
        recon: reconstructions, (B, 3, S, S), in [-1, 1].

    Returns:
        Maps, (B, S, S), in [0, 2].
    """
    return smooth((recon - images).abs().mean(dim=1))


@dataclass(frozen=True)
class ErrorLevels:
    """Mean and standard deviation of the maps of normal images, at each pixel.

    Attributes:
        mean: (S, S).
        std: same shape, above 0.
    """

    mean: Tensor
    std: Tensor

    def deviations(self, maps: Tensor) -> Tensor:
        """Express maps, (B, S, S), in standard deviations above the mean of the same pixel."""
        return (maps - self.mean) / self.std


class Levels:
    """Accumulate mean and standard deviation of maps, at each pixel, over batches.

    The moments are updated as in Chan, Golub and LeVeque (1979), which is numerically stable.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())  # sum of the squared differences from the mean

    def add(self, maps: Tensor) -> None:
        """Add a batch of maps, (B, S, S)."""
        total = self.count + len(maps)
        of_batch = maps.mean(dim=0)
        difference = of_batch - self.mean.to(maps)
        squares = (maps - of_batch).square().sum(dim=0) + difference.square() * (self.count * len(maps) / total)
        self.mean = self.mean.to(maps) + difference * (len(maps) / total)
        self.squares = self.squares.to(maps) + squares
        self.count = total

    def measured(self) -> ErrorLevels | None:
        """Compute mean and standard deviation; None of fewer maps than `MIN_NORMALS`.

        Standard deviations below a tenth of their mean over all pixels are raised to it.
        """
        if self.count < MIN_NORMALS:
            return None
        std = (self.squares / (self.count - 1)).sqrt()
        return ErrorLevels(self.mean, std.clamp(min=max(LEAST_STD * float(std.mean()), 1e-6)))


def memory_maps(features: Tensor, normal: Tensor, neighbours: Tensor, *, isize: int) -> Tensor:
    """Compare the patch features of images with those of their nearest normal images at the same position.

    Args:
        features: patch features of the images, (B, C, H, W).
        normal: patch features of normal images, (M, C, H, W).
        neighbours: indices of the normal images to compare each image with, (B, K), in 0..M-1.
        isize: S, the size of the maps.

    Returns:
        1 minus the largest cosine at each position, interpolated bilinearly to (B, S, S), in [0, 2].
    """
    features, normal = F.normalize(features, dim=1), F.normalize(normal, dim=1)
    cosines = [  # image by image, to copy the features of the neighbours of a single image at a time
        torch.einsum("chw,kchw->khw", of_image, normal[index]).amax(dim=0)
        for of_image, index in zip(features, neighbours, strict=True)
    ]
    maps = (1 - torch.stack(cosines)).clamp(min=0)
    return F.interpolate(maps[:, None], size=(isize, isize), mode="bilinear")[:, 0]


def overlay(pixels: np.ndarray, heat: np.ndarray, *, between: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Draw a map in colour over its image; equal values have the same colour in every image.

    Args:
        pixels: (S, S), uint8.
        heat: values of the map, (S, S).
        between: values at which colours begin and end; up to the first the image keeps its grey.

    Returns:
        RGB pixels, (S, S, 3), uint8.
    """
    low, high = between
    share = np.clip((heat - low) / (high - low), 0, 1).astype(np.float32)
    opacity = MOST_OPAQUE * np.sqrt(share)[..., None]
    grey = np.repeat(pixels[..., None].astype(np.float32), 3, axis=2)
    return np.rint(grey + opacity * (colours(share) - grey)).astype(np.uint8)


def colours(share: np.ndarray, palette: np.ndarray = COLOURS) -> np.ndarray:
    """Map values in [0, 1] to colours of a palette, (num_stops, 3), in [0, 255]: (...) -> (..., 3)."""
    stops = np.linspace(0, 1, len(palette))
    mixed: np.ndarray = np.stack([np.interp(share, stops, channel) for channel in palette.T], axis=-1)
    return mixed.astype(np.float32)


def soft_layer(values: np.ndarray, *, threshold: float, side: int | None = None) -> np.ndarray:
    """Draw a score map as a layer to lay over its image; equal values look the same in every image.

    The layer is transparent where nothing is found, softly coloured from about the threshold on, and never hides the
    film; a line marks where the map exceeds the threshold.

    Args:
        values: values of the map, (S, S), at least 0.
        threshold: value that stands out, above 0.
        side: side of the layer, in pixels  [default: S]

    Returns:
        RGBA pixels, (side, side, 4), uint8.
    """
    side = side or len(values)
    fine = F.interpolate(torch.tensor(values)[None, None].float(), size=(side, side), mode="bicubic")
    large = fine[0, 0].clamp(min=0).numpy()
    low, high = SOFT_SHARES
    rise = np.clip((large / (large + threshold) - low) / (high - low), 0, 1)
    opacity = SOFT_OPAQUE * rise * rise * (3 - 2 * rise)
    layer = np.concatenate([colours(rise, SOFT_COLOURS), 255 * opacity[..., None]], axis=2)
    layer[outline(large > threshold, width=max(1, side // 192))] = (*CONTOUR, 255 * CONTOUR_OPAQUE)
    drawn: np.ndarray = np.rint(layer).astype(np.uint8)
    return drawn


def lay_over(pixels: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Lay RGBA pixels, (S, S, 4), over an image, (S, S), uint8: RGB pixels, (S, S, 3), uint8."""
    grey = np.repeat(pixels[..., None].astype(np.float32), 3, axis=2)
    laid: np.ndarray = np.rint(grey + layer[..., 3:] / np.float32(255) * (layer[..., :3] - grey)).astype(np.uint8)
    return laid


def outline(mask: NDArray[np.bool_], *, width: int = 2) -> NDArray[np.bool_]:
    """Outline a mask on its inner side, `width` pixels wide: (H, W) -> (H, W)."""
    inner = np.pad(mask, width)
    for _ in range(width):
        inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    edge: NDArray[np.bool_] = mask & ~inner[width:-width, width:-width]
    return edge
