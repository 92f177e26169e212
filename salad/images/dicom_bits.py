"""Tell the bits of a DICOM image that hold its values from those that hold anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from salad.images.dicom_header import numbers

if TYPE_CHECKING:
    from pydicom import Dataset


def without_unused_bits(pixels: NDArray[np.generic], ds: Dataset) -> NDArray[np.generic]:
    """Cut the values to the bits that are stored, unless the others belong to them.

    Other bits may hold the sign, overlays (an old practice) or anything, or BitsStored is wrong. The image whose
    neighbouring pixels are more alike is the right one. Padding keeps its value.

    Args:
        pixels: values with all bits allocated, (H, W) or (H, W, 3), signed where PixelRepresentation says so.
        ds: elements of the file.

    Returns:
        The values, of the same shape.
    """
    stored, size = int(ds.BitsStored), pixels.dtype.itemsize
    if stored == 8 * size:
        return pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    cut: NDArray[np.generic] = pixels.view(f"u{size}") & (2**stored - 1)
    if ds.PixelRepresentation:
        sign = 2 ** (stored - 1)
        cut = ((cut ^ sign).astype(np.int32) - sign).astype(f"i{size}")
    is_other = cut != pixels
    if not is_other.any():
        return cut
    padding = {int(value) % 2 ** (8 * size) for value in numbers(ds, "PixelPaddingValue")[:1] if value is not None}
    is_padding = is_other & np.isin(pixels.view(f"u{size}"), [*padding])
    cut = np.where(is_padding, pixels, cut)
    return cut if _roughness(cut) <= _roughness(pixels) else pixels


def _roughness(pixels: NDArray[np.generic]) -> float:
    """Add up the differences of neighbouring pixels."""
    values = pixels.astype(np.float32)
    return float(sum(np.abs(np.diff(values, axis=axis)).sum(dtype=np.float64) for axis in (0, 1)))
