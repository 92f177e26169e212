"""Find decoded films that show next to nothing, or that lack a part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of 5,928 real films, decoded to 96 x 96, none comes near: their central 98 % spans 84 levels or more, and at most
# 36 % of their pixels are black or white. Of 2,128 of 28 x 28 pixels one spans 30 levels, the others more.
MIN_SPAN = 24  # grey levels from the 1st to the 99th percentile
EDGE = 16  # grey levels next to 0 and 255 that count as black and white
MAX_SHARE = 0.9  # share of black and white pixels
# Of the same films, none has two such rows but at its edges, nor 17 % more at the lower edge than at the upper.
MAX_INNER_BAND = 0.05  # share of the rows that are of one and the same grey level, not at an edge
MAX_LAST_BAND = 0.25  # the same at the lower edge, less those at the upper one
MIN_ROWS = 32
NAMED = 3  # films to name in one line


def find_doubt(grey: NDArray[np.uint8]) -> str | None:
    """Find the reason to doubt that a decoded image is a film.

    Args:
        grey: grey levels of one image after windowing, (H, W).

    Returns:
        The reason, such as ``nearly black``; None for an image with grey levels like those of a film.
    """
    return _doubt_levels(grey) or _doubt_rows(grey)


def _doubt_levels(grey: NDArray[np.uint8]) -> str | None:
    """Find a reason to doubt in the distribution of the grey levels."""
    counts = np.bincount(grey.reshape(-1), minlength=256)
    shares = counts / counts.sum()
    black, white = float(shares[: EDGE + 1].sum()), float(shares[-EDGE - 1 :].sum())
    if counts.max() == counts.sum() and black + white == 0:
        return "constant"
    if black + white >= MAX_SHARE:
        two = "nearly white" if white >= MAX_SHARE else "nearly all black or white"
        return "nearly black" if black >= MAX_SHARE else two
    counts[0] = 0  # black borders, such as those of --resize pad, do not make a constant film a picture
    low, high = np.searchsorted(np.cumsum(counts), np.array([0.01, 0.99]) * counts.sum())
    if high - low >= MIN_SPAN:
        return None
    return "nearly white" if low >= 255 - EDGE else "nearly constant"


def _doubt_rows(grey: NDArray[np.uint8]) -> str | None:
    """Find a band of rows that a decoder or a disk filled up because data were missing."""
    num_rows = len(grey)
    is_even = grey.min(axis=1) == grey.max(axis=1)
    if num_rows < MIN_ROWS or not is_even.any():
        return None
    starts = np.flatnonzero(np.r_[True, ~is_even[1:] | ~is_even[:-1] | (grey[1:, 0] != grey[:-1, 0])])
    ends = np.r_[starts[1:], num_rows]
    heights = np.where(is_even[starts], ends - starts, 0) / num_rows
    if heights[1:-1].max(initial=0) >= MAX_INNER_BAND:
        return "with a band of one grey level: a hole?"
    if heights[-1] - heights[0] * (len(heights) > 1) >= MAX_LAST_BAND:
        return "with an end of one grey level: cut off?"
    return None


def doubt_line(split: str, doubted: list[tuple[str, str]], *, num_images: int) -> str:
    """Describe the doubtful films of a split in one line.

    Args:
        split: ``train``, ``val`` or ``test``.
        doubted: name and doubt of each such film, at least one.
        num_images: number of films that were looked at.
    """
    named = ", ".join(f"{name} ({doubt})" for name, doubt in doubted[:NAMED])
    first = "the first are" if len(doubted) > 1 else "namely"
    return f"{len(doubted):,} of {num_images:,} images of {split}/ are doubtful, {first} {named}"
