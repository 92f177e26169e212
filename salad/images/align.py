"""Register images to a template, the mean of normal images, so that all have the same framing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32  # side of the template and of the images that are compared with it, in pixels
MARGIN = 3  # pixels along each border that are not compared
NUM_STEPS = 12  # Gauss-Newton steps
NUM_ROUNDS = 3  # times that the images are registered to their mean and averaged again
LARGEST_STEP, LARGEST = 0.1, 0.35  # bounds of a parameter's step and of a parameter
DIFFERENCE = 0.02  # half the width of the finite difference of a parameter
STIFFNESS = 0.06  # weight of the pull of all parameters towards zero, for each compared pixel
UNIT = 1 / 1024  # parameters are rounded to multiples of it, which removes differences due to the order of sums
LEAST_STD = 1.0  # grey levels: an image of less contrast counts as uniform


@torch.no_grad()
def register(template: Tensor, grey: Tensor) -> Tensor:
    """Register images to a template with scales and shifts, without rotation.

    Gauss-Newton steps reduce the squared difference of standardised grey levels (Lucas and Kanade, IJCAI 1981), for
    all images of a batch at once. A pull towards zero leaves images without structure as they are.

    Args:
        template: result of `build_template`, (1, 1, SIDE, SIDE).
        grey: decoded images, (B, 1, S, S), uint8.

    Returns:
        Parameters for `warp`, (B, 4): the logarithms of the horizontal and the vertical scale, then the shifts to the
        right and down, in half sides.
    """
    return _fit(template, shrink(grey))


def _fit(template: Tensor, images: Tensor) -> Tensor:
    """Register images (B, 1, SIDE, SIDE) from `shrink` to a template; see `register`."""
    target = _inner(template)
    stiffness = STIFFNESS * target.numel()
    probes = DIFFERENCE * torch.eye(4, device=images.device)
    probes = torch.cat([probes, -probes, torch.zeros_like(probes[:1])])[:, None]  # (9, 1, 4)
    copies = images.expand(9, *images.shape).flatten(0, 1)  # one call for all probes, as small calls are slow
    params = images.new_zeros(images.shape[0], 4)  # len() would fix the batch size in an exported graph
    for _ in range(NUM_STEPS):
        warped = _inner(warp(copies, (params + probes).flatten(0, 1)))
        residuals = (warped - target).view(9, images.shape[0], -1)
        slopes = (residuals[:4] - residuals[4:8]) / (2 * DIFFERENCE)
        # products and sums, because the rounding of matrix products depends on the batch size, and on GPUs on TF32
        normal = (slopes[:, None] * slopes).sum(dim=3).permute(2, 0, 1)
        normal = normal + stiffness * torch.eye(4, device=images.device)
        gradient = (slopes * residuals[8]).sum(dim=2).T + stiffness * params
        step = _solve(normal, gradient).clamp(-LARGEST_STEP, LARGEST_STEP)
        params = (params - step).clamp(-LARGEST, LARGEST)
    return (params / UNIT).round() * UNIT


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve linear systems by Gauss-Jordan elimination without pivoting.

    torch.linalg.solve would make the host wait for a GPU, and ONNX has no such operation.

    Args:
        matrix: positive definite matrices, which need no pivoting, (B, n, n).
        right: right-hand sides, (B, n).

    Returns:
        Solutions, (B, n).
    """
    rows = torch.cat([matrix, right[:, :, None]], dim=2)
    others = 1 - torch.eye(matrix.shape[1], device=matrix.device)[:, :, None]  # i-th entry: all rows but row i
    for i, is_other in enumerate(others.unbind()):
        pivot = rows.narrow(1, i, 1)
        rows = rows - rows.narrow(2, i, 1) * is_other / pivot.narrow(2, i, 1) * pivot
    return rows[:, :, -1] / rows.diagonal(dim1=1, dim2=2)


def warp(images: Tensor, params: Tensor, *, margin: int = 0) -> Tensor:
    """Warp images by scales and shifts, with bilinear interpolation.

    A pixel from outside the image repeats its border. Parameters of zero leave the pixels unchanged.

    Args:
        images: (B, C, S, S), floating point.
        params: result of `register`, (B, 4).
        margin: pixels to cut off along each border of the warped image.

    Returns:
        Warped images, (B, C, S - 2 * margin, S - 2 * margin).
    """
    columns, rows = _coordinates(params, side=images.shape[-1], margin=margin)
    shape = images.shape[0], rows.shape[1], columns.shape[1]
    grid = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=3)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def find_inside(params: Tensor, *, side: int, margin: int = 0) -> Tensor:
    """Find the pixels of warped images that come from inside the image and do not repeat its border.

    Args:
        params: result of `register`, (B, 4).
        side: side of the images before `warp`, in pixels.
        margin: pixels that `warp` cuts off along each border.

    Returns:
        1 inside and 0 on the repeated border, (B, 1, side - 2 * margin, side - 2 * margin), float32.
    """
    columns, rows = (axis.abs() < 1 for axis in _coordinates(params, side=side, margin=margin))
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def _coordinates(params: Tensor, *, side: int, margin: int) -> tuple[Tensor, Tensor]:
    """Compute the columns and rows to sample, (B, side - 2 * margin) each, where the image spans -1 to 1."""
    centres = (2 * torch.arange(margin, side - margin, device=params.device) + 1) / side - 1
    logs, shifts = params[:, :, None].chunk(2, dim=1)
    columns, rows = (logs.exp() * centres + shifts).unbind(1)
    return columns, rows


@torch.no_grad()
def build_template(images: Tensor) -> Tensor:
    """Build the template: the mean of normal images, which are registered to it again in each round.

    Args:
        images: normal images from `shrink`, (N, 1, SIDE, SIDE); a few hundred are enough.

    Returns:
        The template, (1, 1, SIDE, SIDE), float32.
    """
    template = images.mean(dim=0, keepdim=True)
    for _ in range(NUM_ROUNDS):
        template = standardize(warp(images, _fit(template, images))).mean(dim=0, keepdim=True)
    return template


def standardize(images: Tensor, *, least: float = 1e-3) -> Tensor:
    """Scale each image to mean 0 and standard deviation 1, and clip it to [-3, 3].

    Args:
        images: (B, C, S, S), floating point.
        least: smallest divisor; an image with a smaller standard deviation ends up with one below 1.

    Returns:
        Standardised images, (B, C, S, S).
    """
    std, mean = torch.std_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
    return ((images - mean) / std.clamp(min=least)).clamp(-3, 3)


def shrink(grey: Tensor) -> Tensor:
    """Shrink images to the size of the template and standardise them.

    Args:
        grey: (B, 1, S, S), uint8.

    Returns:
        (B, 1, SIDE, SIDE), float32.
    """
    if grey.shape[-1] <= SIDE:
        small = F.interpolate(grey.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
    else:
        small = F.adaptive_avg_pool2d(grey.float(), SIDE)  # bilinear interpolation would skip pixels
    return standardize(small, least=LEAST_STD)


def _inner(images: Tensor) -> Tensor:
    """Crop images (B, 1, SIDE, SIDE) to the compared pixels, (B, num_pixels), and standardise them again."""
    inner = slice(MARGIN, SIDE - MARGIN)
    return standardize(images[:, :, inner, inner].contiguous()).flatten(1)
