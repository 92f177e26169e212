"""Normalise the grey levels of a batch of images, on the device of the batch.

Batches are normalised when they are read, after the cache. So the cache and the baselines (AUC of image mean and
standard deviation) keep the grey levels of the files, and one cache serves every kind of normalisation.
"""

import torch
from torch import Tensor

MOST_DEVIATIONS = 3.0  # `standardize`: standard deviations from the mean at which a pixel is black or white
NUM_TILES = 8  # `clahe`: tiles along a side
CLIP_LIMIT = 2.0  # `clahe`: largest count of a grey level in a tile, as a multiple of the mean count


def normalize(grey: Tensor, kind: str) -> Tensor:
    """Normalise the grey levels of each image separately.

    Args:
        grey: (B, 1, S, S), uint8.
        kind: ``fixed`` (unchanged), ``standardize`` (mean 0 and standard deviation 1, with -3 to 3 mapped to 0 to
            255; an image of a single level becomes medium grey) or ``clahe`` (contrast-limited adaptive histogram
            equalisation).

    Returns:
        (B, 1, S, S), uint8.
    """
    if kind == "standardize":
        return _standardize(grey)
    return _clahe(grey) if kind == "clahe" else grey


def _standardize(grey: Tensor) -> Tensor:
    """Standardise each image and map -3 to 3 standard deviations to 0 to 255."""
    std, mean = torch.std_mean(grey.float(), dim=(1, 2, 3), correction=0, keepdim=True)
    deviations = (grey - mean) / std.clamp(min=1e-6)
    return ((deviations / MOST_DEVIATIONS + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _clahe(grey: Tensor) -> Tensor:
    """Apply contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994).

    Each tile has its own grey-level curve, its cumulative histogram. Before that, counts above the clip limit are
    spread evenly over all levels, which bounds the slope of the curve. A pixel gets the bilinear mean of the curves
    of its four nearest tiles.
    """
    num_images, _, side, _ = grey.shape
    num_tiles = min(NUM_TILES, side)
    levels = grey[:, 0].long()
    image = torch.arange(num_images, device=grey.device)[:, None, None]
    pixel = torch.arange(side, device=grey.device)
    tile = pixel * num_tiles // side

    def entry(rows: Tensor, columns: Tensor) -> Tensor:
        """Compute the index of each pixel's level, (B, S, S), in the flat table of all tiles' levels."""
        return ((image * num_tiles + rows[:, None]) * num_tiles + columns) * 256 + levels

    entries = entry(tile, tile).flatten()
    counts = torch.zeros(num_images * num_tiles**2 * 256, device=grey.device)  # whole numbers below 2**24 are exact
    counts = counts.scatter_add_(0, entries, torch.ones_like(entries, dtype=counts.dtype)).view(-1, 256)
    area = counts.sum(dim=1, keepdim=True)
    kept = counts.minimum((CLIP_LIMIT * area / 256).clamp(min=1))
    kept += (area - kept.sum(dim=1, keepdim=True)) / 256
    curves = (kept.cumsum(dim=1) * 255 / area).flatten()

    position = ((pixel + 0.5) * num_tiles / side - 0.5).clamp(0, num_tiles - 1)  # relative to the tile centres
    low = position.floor().long()
    high, weight = (low + 1).clamp(max=num_tiles - 1), position - low
    above, below = (torch.lerp(curves[entry(row, low)], curves[entry(row, high)], weight) for row in (low, high))
    return torch.lerp(above, below, weight[:, None])[:, None].round().clamp(0, 255).to(torch.uint8)
