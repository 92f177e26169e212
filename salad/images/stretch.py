"""Stretch pixels deeper than 8 bits to grey levels, by a range that a few odd pixels cannot move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from salad.errors import InputError

PERCENTILES = 0.5, 99.5  # of the pixels: the ends of the range
# An end of the histogram is left out if a gap separates it from all other values: markers, dead or hot pixels,
# values that stand for "no data" (0, -1024, -9999, the largest float), and the black of a shutter.
MIN_GAP = 0.05  # of the range of the other values; the histogram of a film has none as wide
MIN_GAP_STEPS = 8  # times the mean distance of two values: few values are no film and have gaps
MIN_VALUES = 16  # different values that must remain
MAX_SHARE = 0.05  # share of the pixels beyond a gap; a single value may have any share
MAX_COUNTED = 2**22  # pixels to take the range from
CHUNK = 2**20  # pixels to hold in double precision at a time

GreyLevels = NDArray[np.uint8]
Values = NDArray[np.float64]


def stretch(pixels: NDArray[np.generic]) -> GreyLevels:
    """Stretch the range of an image to 0..255, see `find_range`; values outside become black or white.

    Args:
        pixels: whole numbers or floats, of any shape.

    Returns:
        Grey levels of the same shape.

    Raises:
        InputError: a value is NaN or infinite.
    """
    flat = pixels.reshape(-1)
    if flat.dtype.itemsize > 8:  # long doubles, which may lie beyond the range of a double
        with np.errstate(over="ignore"):
            flat = flat.astype(np.float64)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        raise InputError("an image with NaN or infinite pixels")
    counted = flat[:: flat.size // MAX_COUNTED + 1]
    if flat.dtype.itemsize <= 2 and flat.dtype.kind in "ui":
        smallest = int(counted.min())
        counts = np.bincount(counted.astype(np.int64) - smallest)
        values = smallest + np.flatnonzero(counts)
        counts = counts[counts > 0]
    else:
        values, counts = np.unique(counted, return_counts=True)
    low, high = find_range(values.astype(np.float64), counts)
    grey = np.empty(flat.shape, np.uint8)
    for start in range(0, len(flat), CHUNK):
        chunk = slice(start, start + CHUNK)
        grey[chunk] = np.rint(255 * ramp(flat[chunk].astype(np.float64), low, high))
    return grey.reshape(pixels.shape)


def find_range(values: Values, counts: NDArray[np.int64]) -> tuple[float, float]:
    """Find the range of values that a film fills.

    These are the percentiles of the pixels, after a few pixels, or any number of one value, far below or above all
    others have been left out; the whole range if both percentiles are equal.

    Args:
        values: different values, sorted, (V,).
        counts: number of pixels of each value, (V,).

    Returns:
        Values of black and of white.
    """
    while len(values) > MIN_VALUES:
        kept = _without_end(values, counts)
        if kept is None:
            break
        values, counts = values[kept], counts[kept]
    num_below = np.cumsum(counts)
    low, high = values[np.searchsorted(num_below, np.array(PERCENTILES) / 100 * num_below[-1])]
    return (low, high) if high > low else (values[0], values[-1])


def ramp(values: Values, low: float, high: float) -> Values:
    """Map values linearly, `low` to 0 and `high` to 1, and clip them; a step if both are equal."""
    if high <= low:
        return (values > low).astype(np.float64)
    return (np.clip(values, low, high) / 2 - low / 2) / (high / 2 - low / 2)  # halves do not overflow


def _without_end(values: Values, counts: NDArray[np.int64]) -> slice | None:
    """Find the values that remain without an end that a wide gap separates; None if there is no such end."""
    num_below, most = np.cumsum(counts), MAX_SHARE * counts.sum()
    values = values / 2  # so that no gap overflows
    gaps = np.diff(values)
    first, last = int(np.searchsorted(num_below, most)), int(np.searchsorted(num_below, num_below[-1] - most))
    num_low, num_high = max(1, first), max(1, len(values) - 1 - last)  # values that an end may have
    at_low, at_high = int(np.argmax(gaps[:num_low])), len(gaps) - num_high + int(np.argmax(gaps[-num_high:]))
    ends = (slice(at_low + 1, None), gaps[at_low]), (slice(0, at_high + 1), gaps[at_high])
    for kept, gap in sorted(ends, key=lambda end: -end[1]):
        rest = values[kept]
        if len(rest) < MIN_VALUES:
            continue
        span = rest[-1] - rest[0]
        if gap > max(MIN_GAP, MIN_GAP_STEPS / (len(rest) - 1)) * span:
            return kept
    return None
