"""Stored values of a DICOM image to the grey levels that a screen would show."""

from __future__ import annotations

import contextlib
import math
from collections.abc import MutableSequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

PERCENTILES = 0.5, 99.5  # the window of a file that has none
CHUNK = 2**20  # pixels that are looked up at a time

Ints = NDArray[np.int64]
Values = NDArray[np.float64]


def grey_levels(stored: NDArray[np.generic], ds: Dataset) -> NDArray[np.uint8]:
    """Apply the Modality LUT or rescale, the VOI LUT or window, and the inversion of MONOCHROME1.

    All of it is worked out once for each value between the smallest and the largest, then looked up.

    Args:
        stored: whole numbers of at most 16 bits, signed or not, (H, W).
        ds: the elements of the file.

    Returns:
        (H, W); pixels that only pad the image are black.
    """
    low = int(stored.min())
    values = np.arange(low, int(stored.max()) + 1)
    parts = np.array_split(stored.reshape(-1), stored.size // CHUNK + 1)
    counts = np.zeros_like(values)
    for part in parts:
        counts += np.bincount(part.astype(np.int64) - low, minlength=len(values))
    first, last = _number(ds, "PixelPaddingValue"), _number(ds, "PixelPaddingRangeLimit")
    ends = (math.inf,) if first is None else (first, first if last is None else last)
    padding = (values >= min(ends)) & (values <= max(ends))
    if counts[~padding].any():
        counts[padding] = 0
    shares = _apply_voi(_apply_modality(values.astype(np.float64), ds, counts=counts), ds, counts=counts)
    levels = np.rint(255 * shares).astype(np.uint8)
    # INVERSE says the same as MONOCHROME1: in a file that has both they count once
    if ds.PhotometricInterpretation == "MONOCHROME1" or _code(ds, "PresentationLUTShape") == "INVERSE":
        levels = 255 - levels
    levels[padding] = 0
    return np.concatenate([levels[part.astype(np.int64) - low] for part in parts]).reshape(stored.shape)


def _apply_modality(values: Values, ds: Dataset, *, counts: Ints) -> Values:
    """Apply the Modality LUT, else the rescale slope and intercept (PS3.3 C.11.1)."""
    if ds.get("ModalityLUTSequence"):
        return _look_up(values, ds, name="ModalityLUTSequence", counts=counts)[0]
    return values * (_number(ds, "RescaleSlope") or 1.0) + (_number(ds, "RescaleIntercept") or 0.0)


def _apply_voi(values: Values, ds: Dataset, *, counts: Ints) -> Values:
    """Apply the first VOI LUT, else the first window (PS3.3 C.11.2), else one from percentiles; from 0 to 1."""
    if ds.get("VOILUTSequence"):
        found, table = _look_up(values, ds, name="VOILUTSequence", counts=counts)
        return _ramp(found, table.min(), table.max())
    centre, width, function = _number(ds, "WindowCenter"), _number(ds, "WindowWidth"), _code(ds, "VOILUTFunction")
    if centre is not None and width is not None:
        from pydicom import Dataset
        from pydicom.pixels.processing import apply_windowing

        window = Dataset()  # nothing of the file but what is known to be sound
        window.WindowCenter, window.WindowWidth = centre, width
        window.VOILUTFunction = function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"
        window.PhotometricInterpretation, window.PixelRepresentation, window.BitsStored = "MONOCHROME2", 0, 1
        with contextlib.suppress(ValueError):  # too narrow: as if there were none
            return apply_windowing(values, window)  # from 0 to 1, all that one bit holds
    return _ramp(values, *_percentile_window(values, counts))


def _ramp(values: Values, low: float, high: float) -> Values:
    """Map `low` to 0, `high` to 1, and what lies between linearly; a step where they are the same."""
    return np.clip((values - low) / (high - low), 0, 1) if high > low else (values > low).astype(np.float64)


def _percentile_window(values: Values, counts: Ints) -> tuple[float, float]:
    """Find the percentiles of the pixels, or their range where nearly all are the same."""
    order = np.argsort(values, kind="stable")
    order = order[counts[order] > 0]
    ranked, num_below = values[order], np.cumsum(counts[order])
    low, high = ranked[np.searchsorted(num_below, np.array(PERCENTILES) / 100 * num_below[-1])]
    return (low, high) if high > low else (ranked[0], ranked[-1])


def _look_up(values: Values, ds: Dataset, *, name: str, counts: Ints) -> tuple[Values, Values]:
    """Look values up in the first LUT of a sequence; those before and behind it take its first and last entry.

    pydicom's own functions believe the sign of the first mapped value. That sign lies in the VR of the descriptor,
    which is a guess in implicit files and wrong in others; so the sign counts with which more pixels fall into the
    table, and the file's own where they are as many.

    Returns:
        The entries of the values, and all entries of the table.
    """
    item, order = ds[name].value[0], ">" if ds.original_encoding[1] is False else "<"
    length, first, _ = map(int, item.LUTDescriptor)
    length = length % 2**16 or 2**16
    data = item.LUTData
    if not isinstance(data, bytes):
        data = np.atleast_1d(data).astype(f"{order}u2").tobytes()
    size = 1 if len(data) < min(2 * length, length + 2) else 2  # bytes of an entry; those of 8 bits may take either
    table = np.frombuffer(data, f"{order}u{size}", min(length, len(data) // size)).astype(np.float64)
    if len(table) == 0:
        raise ValueError("an empty LUT")
    signs = first, first % 2**16, (first + 2**15) % 2**16 - 2**15  # of one 16-bit word
    first = max(signs, key=lambda start: int(counts[(values >= start) & (values < start + len(table))].sum()))
    return table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)], table


def _number(ds: Dataset, name: str) -> float | None:
    """Read the first value of an element; None where there is none, or no finite number."""
    try:
        value = ds.get(name)
        number = float(value[0] if isinstance(value, MutableSequence) else value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _code(ds: Dataset, name: str) -> str:
    return str(ds.get(name) or "").strip().upper()
