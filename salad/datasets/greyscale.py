"""Stored values of a DICOM image to the grey levels that a screen would show."""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

PERCENTILES = 0.5, 99.5  # the window of a file that has none
CHUNK = 2**20  # pixels that are looked up at a time

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
    low, flat = int(stored.min()), stored.reshape(-1)
    values = np.arange(low, int(stored.max()) + 1)
    parts = [slice(start, start + CHUNK) for start in range(0, flat.size, CHUNK)]
    counts = np.zeros(values.shape, np.int64)
    for part in parts:
        counts += np.bincount(flat[part].astype(np.int64) - low, minlength=len(values))
    padding = _padding(values, ds)
    if counts[~padding].any():
        counts[padding] = 0
    shares = _apply_voi(_apply_modality(values, ds), counts, ds)
    levels = np.rint(255 * shares).astype(np.uint8)
    if _is_inverted(ds):
        levels = 255 - levels
    levels[padding] = 0
    grey = np.empty(flat.shape, np.uint8)
    for part in parts:
        grey[part] = levels[flat[part].astype(np.int64) - low]
    return grey.reshape(stored.shape)


def _is_inverted(ds: Dataset) -> bool:
    """Whether large values are dark.

    MONOCHROME1 and the shape INVERSE say the same: in a file that has both they count once.
    """
    shape = str(ds.get("PresentationLUTShape") or "")
    return bool(ds.PhotometricInterpretation == "MONOCHROME1") or shape.strip().upper() == "INVERSE"


def _padding(values: NDArray[np.int64], ds: Dataset) -> NDArray[np.bool_]:
    """Which values stand for no image: the padding value, or those from it to its limit."""
    ends = [_number(ds, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    known = [end for end in ends if end is not None]
    if ends[0] is None:
        return np.zeros(values.shape, np.bool_)
    return (values >= min(known)) & (values <= max(known))


def _apply_modality(values: NDArray[np.int64], ds: Dataset) -> Values:
    """The Modality LUT, else the rescale slope and intercept (PS3.3 C.11.1)."""
    if ds.get("ModalityLUTSequence"):
        return _look_up(values.astype(np.float64), ds.ModalityLUTSequence[0], ds)
    slope, intercept = _number(ds, "RescaleSlope"), _number(ds, "RescaleIntercept")
    return values.astype(np.float64) * (slope or 1.0) + (intercept or 0.0)


def _apply_voi(values: Values, counts: NDArray[np.int64], ds: Dataset) -> Values:
    """The first VOI LUT, else the first window (PS3.3 C.11.2), else one from percentiles; from 0 to 1."""
    if ds.get("VOILUTSequence"):
        entries = _look_up(values, ds.VOILUTSequence[0], ds)
        _, table = _lut(ds.VOILUTSequence[0], ds)
        return _ramp(entries, table.min(), table.max())
    centre, width = _number(ds, "WindowCenter"), _number(ds, "WindowWidth")
    function = str(ds.get("VOILUTFunction") or "LINEAR").strip().upper()
    is_exact = function in ("LINEAR_EXACT", "SIGMOID")
    if centre is None or width is None or width <= 0 or (width < 1 and not is_exact):
        return _ramp(values, *_percentile_window(values, counts))
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return _ramp(values, centre - width / 2, centre + width / 2)
    return _ramp(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _ramp(values: Values, low: float, high: float) -> Values:
    """0 up to `low`, 1 from `high`, straight between; a step where they are one."""
    if high == low:
        return (values > low).astype(np.float64)
    return np.clip((values - low) / (high - low), 0, 1)


def _percentile_window(values: Values, counts: NDArray[np.int64]) -> tuple[float, float]:
    """The percentiles of the pixels, or their range where nearly all are the same."""
    order = np.argsort(values, kind="stable")
    order = order[counts[order] > 0]
    ranked, num_below = values[order], np.cumsum(counts[order])
    places = np.searchsorted(num_below, np.array(PERCENTILES) / 100 * num_below[-1])
    low, high = map(float, ranked[places])
    return (low, high) if high > low else (float(ranked[0]), float(ranked[-1]))


def _look_up(values: Values, item: Dataset, ds: Dataset) -> Values:
    """Values through a LUT; those in front of its first and behind its last entry take these."""
    first, table = _lut(item, ds)
    found: Values = table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)]
    return found


def _lut(item: Dataset, ds: Dataset) -> tuple[int, Values]:
    """The value that the first entry stands for, and the entries."""
    length, first, _ = (int(part) for part in item.LUTDescriptor)
    length = length % 2**16 or 2**16
    data = item.LUTData
    if not isinstance(data, bytes):
        table = np.atleast_1d(np.asarray(data, np.float64))
    elif len(data) < 2 * length:  # entries of 8 bits side by side
        table = np.frombuffer(data, np.uint8).astype(np.float64)
    else:
        order = "<" if ds.original_encoding[1] is not False else ">"
        table = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2").astype(np.float64)
    if len(table) == 0:
        raise ValueError("an empty LUT")
    return first, table[:length]


def _number(ds: Dataset, name: str) -> float | None:
    """The first value of an element; None where there is none, or no finite number."""
    try:
        value = ds.get(name)
        number = float(value[0] if isinstance(value, MutableSequence) else value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return number if math.isfinite(number) else None
