"""Read the sizes and modes of images from their file headers."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass

from salad.images.dicom import HEAD_BYTES, is_dicom
from salad.images.dicom import read_header as read_dicom_header
from salad.images.npz import row_shape
from salad.images.open import open_picture
from salad.images.threads import map_in_chunks
from salad.samples import Sample

MAX_SAMPLED = 2000  # headers to read in a split


@dataclass(frozen=True, slots=True)
class Header:
    """Size and mode of an image, from its file header.

    Attributes:
        width: in pixels, before any EXIF rotation.
        height: in pixels, before any EXIF rotation.
        mode: format and mode, for example ``PNG L``.
    """

    width: int
    height: int
    mode: str


def draw_places(num_samples: int) -> list[int]:
    """Draw the indices of at most `MAX_SAMPLED` samples, sorted and the same at every call."""
    if num_samples <= MAX_SAMPLED:
        return list(range(num_samples))
    return sorted(random.Random(0).sample(range(num_samples), MAX_SAMPLED))


def read_headers(samples: list[Sample], *, num_threads: int) -> list[Header | None]:
    """Read the header of each sample without decoding it or loading its array; None if it cannot be read."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as in `read_image`
    return map_in_chunks(_read_header, samples, num_threads=num_threads, size=16)


def _read_header(sample: Sample) -> Header | None:
    """Read the header of a sample; None if it cannot be read."""
    try:
        if sample.row is not None:
            height, width, *colours = row_shape(sample)
            return Header(width, height, "array, RGB" if colours else "array, grey")
        if not sample.path.is_file():  # a pipe would block
            return None
        with sample.path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            if is_dicom(head, sample.path.suffix):
                width, height, kind = read_dicom_header(file)
                return Header(width, height, f"DICOM {kind}")
            with open_picture(file) as image:
                return Header(*image.size, f"{image.format} {image.mode}")
    except Exception:  # damaged files raise any exception; the scan of all images reports the reason
        return None
