"""Find decoded films that show next to nothing: constant, nearly black or nearly white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of 5,928 real films, decoded to 96 x 96, none comes near: their central 98 % spans 84 levels or more, and at most
# 36 % of their pixels are black or white.
MIN_SPAN = 32  # grey levels from the 1st to the 99th percentile
EDGE = 16  # grey levels next to 0 and 255 that count as black and white
MAX_SHARE = 0.9  # share of black and white pixels
NAMED = 3  # films to name in one line


def find_doubt(grey: NDArray[np.uint8]) -> str | None:
    """Find the reason to doubt that a decoded image is a film.

    Args:
        grey: grey levels of one image, of any shape, after windowing.

    Returns:
        The reason, such as ``nearly black``; None for an image with grey levels like those of a film.
    """
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


def doubt_line(split: str, doubted: list[tuple[str, str]], *, num_images: int) -> str:
    """Describe the doubtful films of a split in one line.

    Args:
        split: ``train``, ``val`` or ``test``.
        doubted: name and doubt of each such film, at least one.
        num_images: number of films that were looked at.
    """
    named = ", ".join(f"{name} ({doubt})" for name, doubt in doubted[:NAMED])
    first = "the first are" if len(doubted) > 1 else "namely"
    return f"{len(doubted):,} of {num_images:,} images of {split}/ show next to nothing, {first} {named}"
