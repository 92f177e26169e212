"""Convert the stored values of a DICOM image to the grey levels that a screen would show."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from salad.errors import InputError
from salad.images.dicom_header import code, number, numbers
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
    padding = _padding(values, ds, counts=counts)
    if counts[~padding].any():
        counts[padding] = 0
    shares = _apply_voi(_apply_modality(values.astype(np.float64), ds, counts=counts), ds, counts=counts)
    levels = np.rint(255 * shares).astype(np.uint8)
    # INVERSE means the same as MONOCHROME1: a file with both is inverted once
    if ds.PhotometricInterpretation == "MONOCHROME1" or code(ds, "PresentationLUTShape") == "INVERSE":
        levels = 255 - levels
    levels[padding] = 0
    return np.concatenate([levels[part.astype(np.int64) - low] for part in parts]).reshape(stored.shape)


def _padding(values: Ints, ds: Dataset, *, counts: Ints) -> NDArray[np.bool_]:
    """Find the values that only pad the image.

    The sign of the limits comes from a VR, which is a guess in implicit files and wrong in some others, so they are
    read as pixels are: signed or not, and, where no pixel is one of these, with the sign in the highest bit stored.
    """
    first = next(iter(numbers(ds, "PixelPaddingValue")), None)
    if first is None:
        return np.zeros(len(values), bool)
    last = next(iter(numbers(ds, "PixelPaddingRangeLimit")), None)
    limits = np.array([first, first if last is None else last]).astype(np.int64) % 2**16
    padding = np.zeros(len(values), bool)
    for bits in (16, int(ds.BitsStored)):
        ends = (limits + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) if ds.PixelRepresentation else limits
        padding = (values >= ends.min()) & (values <= ends.max())
        if counts[padding].any():
            break
    return padding


def _apply_modality(values: Values, ds: Dataset, *, counts: Ints) -> Values:
    """Apply the Modality LUT, else the rescale slope and intercept (PS3.3 C.11.1)."""
    if ds.get("ModalityLUTSequence"):
        return _look_up(values, ds, name="ModalityLUTSequence", counts=counts)[0]
    return values * (number(ds, "RescaleSlope", default=1.0) or 1.0) + number(ds, "RescaleIntercept", default=0.0)


def _apply_voi(values: Values, ds: Dataset, *, counts: Ints) -> Values:
    """Apply the first VOI LUT, else the first window (PS3.3 C.11.2), else their range; results in [0, 1]."""
    if ds.get("VOILUTSequence"):
        entries, table = _look_up(values, ds, name="VOILUTSequence", counts=counts)
        return ramp(entries, table.min(), table.max())
    function = code(ds, "VOILUTFunction")
    for centre, width in zip(numbers(ds, "WindowCenter"), numbers(ds, "WindowWidth"), strict=False):
        if centre is None or width is None:
            continue
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
        InputError: the table has no descriptor or no data.
        ValueError: the table is empty.
    """
    item, order = ds[name].value[0], ">" if ds.original_encoding[1] is False else "<"
    for element in ("LUTDescriptor", "LUTData"):
        if element not in item:
            raise InputError(f"a DICOM file whose {name} is without {element}")
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
