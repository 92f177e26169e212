"""Convert the stored values of a DICOM image to the grey levels that a screen would show."""

from __future__ import annotations

import contextlib
import math
from collections.abc import MutableSequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from salad.images.stretch import find_range, ramp

if TYPE_CHECKING:
    from pydicom import Dataset

CHUNK = 2**20  # pixels to look up at a time

Ints = NDArray[np.int64]
Values = NDArray[np.float64]


def grey_levels(stored: NDArray[np.generic], ds: Dataset) -> NDArray[np.uint8]:
    """Apply the Modality LUT or rescale, the VOI LUT or window, and the inversion of MONOCHROME1.

    The grey level of each possible value, from the smallest to the largest, is computed once and then looked up.

    Args:
        stored: integers of at most 16 bits, signed or unsigned, (H, W).
        ds: elements of the file.

    Returns:
        Grey levels, (H, W), uint8; padding pixels are black.
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
    # INVERSE means the same as MONOCHROME1: a file with both is inverted once
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
    """Apply the first VOI LUT, else the first window (PS3.3 C.11.2), else their range; results in [0, 1]."""
    if ds.get("VOILUTSequence"):
        entries, table = _look_up(values, ds, name="VOILUTSequence", counts=counts)
        return ramp(entries, table.min(), table.max())
    centre, width, function = _number(ds, "WindowCenter"), _number(ds, "WindowWidth"), _code(ds, "VOILUTFunction")
    if centre is not None and width is not None:
        from pydicom import Dataset
        from pydicom.pixels.processing import apply_windowing

        window = Dataset()  # only the elements that are known to be valid
        window.WindowCenter, window.WindowWidth = centre, width
        window.VOILUTFunction = function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"
        window.PhotometricInterpretation, window.PixelRepresentation, window.BitsStored = "MONOCHROME2", 0, 1
        with contextlib.suppress(ValueError):  # a window that is too narrow is ignored
            return apply_windowing(values, window)  # in [0, 1], the range of one bit
    shown, positions = np.unique(values[counts > 0], return_inverse=True)
    return ramp(values, *find_range(shown, np.bincount(positions, counts[counts > 0]).astype(np.int64)))


def _look_up(values: Values, ds: Dataset, *, name: str, counts: Ints) -> tuple[Values, Values]:
    """Look up values in the first LUT of a sequence; values outside the table take its first or last entry.

    pydicom's own functions trust the sign of the first mapped value. That sign comes from the VR of the descriptor,
    which is guessed in implicit files and wrong in some others. Here the sign is used with which more pixels fall
    into the table; at a tie, the file's own.

    Args:
        values: values to look up, (V,).
        ds: elements of the file.
        name: element of the sequence.
        counts: number of pixels of each value, (V,).

    Returns:
        The entry of each value, and all entries of the table.

    Raises:
        ValueError: the table is empty.
    """
    item, order = ds[name].value[0], ">" if ds.original_encoding[1] is False else "<"
    length, first, _ = map(int, item.LUTDescriptor)
    length = length % 2**16 or 2**16
    data = item.LUTData
    if not isinstance(data, bytes):
        data = np.atleast_1d(data).astype(f"{order}u2").tobytes()
    size = 1 if len(data) < min(2 * length, length + 2) else 2  # bytes an entry; 8-bit entries may take 1 or 2
    table = np.frombuffer(data, f"{order}u{size}", min(length, len(data) // size)).astype(np.float64)
    if len(table) == 0:
        raise ValueError("an empty LUT")
    signs = first, first % 2**16, (first + 2**15) % 2**16 - 2**15  # as in the file, unsigned, signed
    first = max(signs, key=lambda start: int(counts[(values >= start) & (values < start + len(table))].sum()))
    return table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)], table


def _number(ds: Dataset, name: str) -> float | None:
    """Read the first value of an element; None if it is absent or not a finite number."""
    try:
        value = ds.get(name)
        number = float(value[0] if isinstance(value, MutableSequence) else value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _code(ds: Dataset, name: str) -> str:
    """Read a code string in upper case; empty if it is absent."""
    return str(ds.get(name) or "").strip().upper()
