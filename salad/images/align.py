"""Images brought to the framing of the mean normal image: their widths, heights and places made alike."""

from __future__ import annotations

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
UNIT = 1 / 1024  # parameters are whole multiples: what sums in another order change is lost with the rest
LEAST_STD = 1.0  # grey levels: an image of less contrast shows nothing


@torch.no_grad()
def register(mean: Tensor, grey: Tensor) -> Tensor:
    """How each image has to be framed to look like the mean normal image: scales and shifts, no rotation.

    The squared difference of standardised grey levels is made small by Gauss-Newton steps (Lucas and Kanade, IJCAI
    1981), for all images of a batch at once; a pull towards zero keeps what shows nothing in its place.

    Args:
        mean: of `build_template`, (1, 1, SIDE, SIDE).
        grey: (B, 1, S, S), uint8.

    Returns:
        (B, 4): logarithms of the horizontal and the vertical scale, shifts to the right and down in halves of a side.
    """
    return _fit(mean, shrink(grey))


def _fit(mean: Tensor, images: Tensor) -> Tensor:
    wanted = _inner(mean)
    stiffness = STIFFNESS * wanted.numel()
    probes = DIFFERENCE * torch.eye(4, device=images.device)
    probes = torch.cat([probes, -probes, torch.zeros_like(probes[:1])])[:, None]  # (9, 1, 4)
    copies = images.expand(9, *images.shape).flatten(0, 1)  # one call for all probes: the calls are what takes time
    params = images.new_zeros(images.shape[0], 4)  # len() would fix the size of batches in an exported graph
    for _ in range(NUM_STEPS):
        found = _inner(warp(copies, (params + probes).flatten(0, 1)))
        residuals = (found - wanted).view(9, images.shape[0], -1)
        slopes = (residuals[:4] - residuals[4:8]) / (2 * DIFFERENCE)
        # products and sums rather than matrix products, which round by the size of the batch, and on GPUs to TF32
        normal = (slopes[:, None] * slopes).sum(dim=3).permute(2, 0, 1)
        normal = normal + stiffness * torch.eye(4, device=images.device)
        gradient = (slopes * residuals[8]).sum(dim=2).T + stiffness * params
        step = _solve(normal, gradient).clamp(-LARGEST_STEP, LARGEST_STEP)
        params = (params - step).clamp(-LARGEST, LARGEST)
    return (params / UNIT).round() * UNIT


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Gauss-Jordan elimination, for positive definite matrices (B, n, n), which need no pivots: (B, n) to (B, n).

    torch.linalg.solve would make the host wait for a GPU, and ONNX has no such operation.
    """
    rows = torch.cat([matrix, right[:, :, None]], dim=2)
    others = 1 - torch.eye(matrix.shape[1], device=matrix.device)[:, :, None]  # all rows but one
    for i, chosen in enumerate(others.unbind()):
        pivot = rows.narrow(1, i, 1)
        rows = rows - rows.narrow(2, i, 1) * chosen / pivot.narrow(2, i, 1) * pivot
    return rows[:, :, -1] / rows.diagonal(dim1=1, dim2=2)


def warp(images: Tensor, params: Tensor, *, margin: int = 0) -> Tensor:
    """Take a window of each image and resample it, bilinear; what lies outside repeats the border.

    Where all parameters are zero, this leaves pixels as they are.

    Args:
        images: (B, C, S, S), floating point.
        params: of `register`, (B, 4).
        margin: pixels to leave out along each border of the window.

    Returns:
        (B, C, S - 2 * margin, S - 2 * margin).
    """
    columns, rows = _places(params, side=images.shape[-1], margin=margin)
    shape = images.shape[0], rows.shape[1], columns.shape[1]
    grid = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=3)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def find_inside(params: Tensor, *, side: int, margin: int = 0) -> Tensor:
    """Where windows of `warp` show their images, of `side` pixels: 1 inside, 0 where the border is repeated.

    Returns:
        (B, 1, side - 2 * margin, side - 2 * margin), float32.
    """
    columns, rows = (one.abs() < 1 for one in _places(params, side=side, margin=margin))
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def _places(params: Tensor, *, side: int, margin: int) -> tuple[Tensor, Tensor]:
    """Columns and rows that a window takes its pixels from, (B, size) each; the image reaches from -1 to 1."""
    centres = (2 * torch.arange(margin, side - margin, device=params.device) + 1) / side - 1
    logs, shifts = params[:, :, None].chunk(2, dim=1)
    columns, rows = (logs.exp() * centres + shifts).unbind(1)
    return columns, rows


@torch.no_grad()
def build_template(images: Tensor) -> Tensor:
    """The mean normal image, from normal images that are framed ever more alike.

    Args:
        images: of `shrink`, (N, 1, SIDE, SIDE); a few hundred will do.

    Returns:
        (1, 1, SIDE, SIDE), float32.
    """
    mean = images.mean(dim=0, keepdim=True)
    for _ in range(NUM_ROUNDS):
        mean = standardize(warp(images, _fit(mean, images))).mean(dim=0, keepdim=True)
    return mean


def standardize(images: Tensor, *, least: float = 1e-3) -> Tensor:
    """Each image with mean 0 and standard deviation 1, cut at three of these; (B, C, S, S) to the same.

    Args:
        images: floating point.
        least: a standard deviation; an image of a smaller one keeps less than 1.
    """
    std, mean = torch.std_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
    return ((images - mean) / std.clamp(min=least)).clamp(-3, 3)


def shrink(grey: Tensor) -> Tensor:
    """(B, 1, S, S), uint8, as the fit looks at it: (B, 1, SIDE, SIDE), standardised."""
    if grey.shape[-1] <= SIDE:
        small = F.interpolate(grey.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
    else:
        small = F.adaptive_avg_pool2d(grey.float(), SIDE)  # each pixel the mean of those that it covers
    return standardize(small, least=LEAST_STD)


def _inner(images: Tensor) -> Tensor:
    """What of them is compared: (B, 1, SIDE, SIDE) to (B, number of pixels), standardised anew."""
    inner = slice(MARGIN, SIDE - MARGIN)
    return standardize(images[:, :, inner, inner].contiguous()).flatten(1)
