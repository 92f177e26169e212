"""Sizes and modes of images, from the beginnings of their files."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass

from PIL import Image

from salad.images.dicom import HEAD_BYTES, is_dicom
from salad.images.dicom import read_header as read_dicom_header
from salad.images.npz import row_shape
from salad.images.read import FORMATS
from salad.images.threads import map_in_chunks
from salad.samples import Sample

MAX_SAMPLED = 2000  # of a split


@dataclass(frozen=True, slots=True)
class Header:
    """What the beginning of a file says.

    Attributes:
        width: in pixels, before a rotation that EXIF asks for.
        height: in pixels.
        mode: format and mode, ``PNG L`` say.
    """

    width: int
    height: int
    mode: str


def draw_places(num_samples: int) -> list[int]:
    """The places of all samples, or the same `MAX_SAMPLED` of them every time, in order."""
    if num_samples <= MAX_SAMPLED:
        return list(range(num_samples))
    return sorted(random.Random(0).sample(range(num_samples), MAX_SAMPLED))


def read_headers(samples: list[Sample], *, num_threads: int) -> list[Header | None]:
    """A header each; None for files that cannot be read. Nothing is decoded, and no array is loaded."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as when images are decoded
    return map_in_chunks(_read_header, samples, num_threads=num_threads, size=16)


def _read_header(sample: Sample) -> Header | None:
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
            with Image.open(file, formats=FORMATS) as image:
                return Header(*image.size, f"{image.format} {image.mode}")
    except Exception:  # whatever a damaged file makes of it; the check of all images says what is wrong
        return None
