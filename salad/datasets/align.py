"""Images brought to the framing of the mean normal image: their widths, heights and places made alike."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32  # pixels a side that the fit looks at
MARGIN = 3  # of them along each border, which it does not look at
NUM_STEPS = 12  # of Gauss-Newton
NUM_ROUNDS = 3  # of fitting images to their mean, and of taking the mean of the fitted
LARGEST_STEP, LARGEST = 0.1, 0.35  # of any parameter
DIFFERENCE = 0.02  # of a parameter, for slopes
STIFFNESS = 0.06  # pull of all parameters towards zero, a pixel that is compared


def fit_to(mean: Tensor, grey: Tensor) -> Tensor:
    """How each image has to be framed to look like the mean normal image: scales and shifts, no rotation.

    The squared difference of standardised grey levels is made small by Gauss-Newton steps (Lucas and Kanade, IJCAI
    1981), for all images of a batch at once; a pull towards zero keeps what shows nothing in its place.

    Args:
        mean: standardised, (1, 1, SIDE, SIDE).
        grey: (B, 1, S, S), uint8.

    Returns:
        (B, 4): logarithms of the horizontal and the vertical scale, shifts to the right and down in halves of a side.
    """
    return _fit(mean, _shrink(grey))


def _fit(mean: Tensor, images: Tensor) -> Tensor:
    inner = slice(MARGIN, SIDE - MARGIN)
    wanted = standardize(mean[:, :, inner, inner]).flatten(1)
    params = images.new_zeros(len(images), 4)
    offsets = DIFFERENCE * torch.eye(4, device=images.device)
    stiffness = STIFFNESS * wanted.numel()

    def residual(params: Tensor) -> Tensor:
        return standardize(reframe(images, params)[:, :, inner, inner]).flatten(1) - wanted

    for _ in range(NUM_STEPS):
        slopes = [(residual(params + one) - residual(params - one)) / (2 * DIFFERENCE) for one in offsets]
        jacobian = torch.stack(slopes, dim=2)
        normal = jacobian.mT @ jacobian + stiffness * torch.eye(4, device=images.device)
        gradient = torch.einsum("bnp,bn->bp", jacobian, residual(params)) + stiffness * params
        step = torch.linalg.solve(normal, gradient).clamp(-LARGEST_STEP, LARGEST_STEP)
        params = (params - step).clamp(-LARGEST, LARGEST)
    return params


def reframe(images: Tensor, params: Tensor, *, size: int | None = None, crop: float = 1.0) -> Tensor:
    """Take a window of each image and resample it, bilinear; what lies outside repeats the border.

    Args:
        images: (B, C, S, S), floating point.
        params: of `fit_to`, (B, 4).
        size: height and width of the result; by default S.
        crop: share of the side, around the middle of the window, that is kept.

    Returns:
        (B, C, size, size).
    """
    size = size or images.shape[-1]
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = params[:, 0].exp() * crop, params[:, 1].exp() * crop
    theta[:, :, 2] = params[:, 2:]
    grid = F.affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def find_mean(batches: Iterable[Tensor]) -> Tensor:
    """The mean normal image, from normal images that are framed ever more alike.

    Args:
        batches: grey images, (B, 1, S, S), uint8; a few hundred will do.

    Returns:
        Standardised, (1, 1, SIDE, SIDE), float32.
    """
    images = torch.cat([_shrink(batch) for batch in batches])
    mean = standardize(images).mean(dim=0, keepdim=True)
    for _ in range(NUM_ROUNDS):
        mean = standardize(reframe(images, _fit(mean, images))).mean(dim=0, keepdim=True)
    return mean


def standardize(images: Tensor) -> Tensor:
    """Each image with mean 0 and standard deviation 1, cut at three of these; (B, C, S, S) to the same."""
    std, mean = torch.std_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
    return ((images - mean) / std.clamp(min=1e-6)).clamp(-3, 3)


def _shrink(grey: Tensor) -> Tensor:
    """(B, 1, S, S), uint8, to (B, 1, SIDE, SIDE), float32, each pixel the mean of those that it covers."""
    size = grey.shape[-1]
    if size <= SIDE:
        return F.interpolate(grey.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool2d(grey.float(), SIDE)
