"""Grey levels made alike from image to image, for whole batches, on the device where the batch lies.

This happens when a batch is read and not before the cache: the cache and the baselines (AUC of image mean and
standard deviation) keep the grey levels of the files, and one cache serves every kind.
"""

import torch
from torch import Tensor

MOST_DEVIATIONS = 3.0  # `standardize`: what lies further from the mean becomes black or white
NUM_TILES = 8  # `clahe`: along a side
CLIP_LIMIT = 2.0  # `clahe`: how often a grey level may occur in a tile, as a multiple of all being equally frequent


def normalize(grey: Tensor, kind: str) -> Tensor:
    """Change the grey levels of each image on its own.

    Args:
        grey: (B, 1, S, S), uint8.
        kind: ``fixed`` (as they are), ``standardize`` (mean 0 and standard deviation 1, the range -3 to 3 spread over
            the grey levels; an image of one level becomes medium grey) or ``clahe`` (contrast-limited adaptive
            histogram equalisation).

    Returns:
        (B, 1, S, S), uint8.
    """
    if kind == "standardize":
        return _standardize(grey)
    return _clahe(grey) if kind == "clahe" else grey


def _standardize(grey: Tensor) -> Tensor:
    std, mean = torch.std_mean(grey.float(), dim=(1, 2, 3), correction=0, keepdim=True)
    deviations = (grey - mean) / std.clamp(min=1e-6)
    return ((deviations / MOST_DEVIATIONS + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _clahe(grey: Tensor) -> Tensor:
    """Zuiderveld, Graphics Gems IV (1994).

    Each tile has its own equalisation, a curve from its cumulative histogram. Frequent levels are cut off before
    that and spread over all, which bounds the slope. A pixel takes the bilinear mean of its four nearest tiles.
    """
    num_images, _, side, _ = grey.shape
    num_tiles = min(NUM_TILES, side)
    levels = grey[:, 0].long()
    image = torch.arange(num_images, device=grey.device)[:, None, None]
    pixel = torch.arange(side, device=grey.device)
    tile = pixel * num_tiles // side

    def entry(rows: Tensor, columns: Tensor) -> Tensor:
        """Where the level of each pixel (B, S, S) stands among those of all tiles."""
        return ((image * num_tiles + rows[:, None]) * num_tiles + columns) * 256 + levels

    entries = entry(tile, tile).flatten()
    counts = torch.zeros(num_images * num_tiles**2 * 256, device=grey.device)  # whole numbers below 2**24 are exact
    counts = counts.scatter_add_(0, entries, torch.ones_like(entries, dtype=counts.dtype)).view(-1, 256)
    area = counts.sum(dim=1, keepdim=True)
    kept = counts.minimum((CLIP_LIMIT * area / 256).clamp(min=1))
    kept += (area - kept.sum(dim=1, keepdim=True)) / 256
    curves = (kept.cumsum(dim=1) * 255 / area).flatten()

    place = ((pixel + 0.5) * num_tiles / side - 0.5).clamp(0, num_tiles - 1)  # among the centres of the tiles
    low = place.floor().long()
    high, weight = (low + 1).clamp(max=num_tiles - 1), place - low
    above, below = (torch.lerp(curves[entry(row, low)], curves[entry(row, high)], weight) for row in (low, high))
    return torch.lerp(above, below, weight[:, None])[:, None].round().clamp(0, 255).to(torch.uint8)
