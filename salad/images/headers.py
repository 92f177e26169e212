"""Read the sizes and modes of images from their file headers."""

from __future__ import annotations

import io
import random
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salad.images.dicom import HEAD_BYTES, HEADER_ELEMENTS, is_dicom, read_elements
from salad.images.dicom import read_header as read_dicom_header
from salad.images.dicom_tags import Tag, values_of
from salad.images.film_facts import FACT_ELEMENTS, Facts, facts_of, part_of_words, view_of_words
from salad.images.npz import row_shape
from salad.images.open import open_picture
from salad.images.read import FileContent
from salad.images.threads import map_in_chunks
from salad.samples import Sample

MAX_SAMPLED = 2000  # headers to read in a split
MAX_ASPECTS = 500  # of them, for the aspect ratio alone


@dataclass(frozen=True, slots=True)
class Header:
    """Size and mode of an image, from its file header.

    Attributes:
        width: in pixels, before any EXIF rotation.
        height: in pixels, before any EXIF rotation.
        mode: format and mode, for example ``PNG L``.
        facts: kind of film, as far as a DICOM file tells it.
    """

    width: int
    height: int
    mode: str
    facts: Facts = field(default_factory=dict, compare=False)

    @property
    def aspect(self) -> float:
        """Width by height."""
        return self.width / max(1, self.height)


def draw_places(num_samples: int, *, most: int | None = None) -> list[int]:
    """Draw the indices of at most `most` samples, by default `MAX_SAMPLED`; sorted, and the same at every call."""
    most = MAX_SAMPLED if most is None else most
    if num_samples <= most:
        return list(range(num_samples))
    return sorted(random.Random(0).sample(range(num_samples), most))


def read_headers(samples: list[Sample], *, num_threads: int) -> list[Header | None]:
    """Read the header of each sample without decoding it or loading its array; None if it cannot be read."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as in `read_image`
    return map_in_chunks(_read_header, samples, num_threads=num_threads, size=16)


def read_aspects(samples: list[Sample], *, num_threads: int) -> NDArray[np.float64]:
    """Read the aspect ratios, width by height, of at most `MAX_ASPECTS` samples; those that cannot be read are absent.

    Returns:
        (N,), N at most the number of samples.
    """
    drawn = [samples[i] for i in draw_places(len(samples), most=MAX_ASPECTS)]
    return np.array([header.aspect for header in read_headers(drawn, num_threads=num_threads) if header])


def read_file_header(path: Path | FileContent) -> Header | None:
    """Read the header of an image file, or of its content; None if it cannot be read."""
    return read_header_and_tags(path, ())[0]


def read_header_and_tags(
    path: Path | FileContent, tags: tuple[Tag, ...]
) -> tuple[Header | None, dict[str, str | None]]:
    """Read the header of an image file, or of its content, and, of a DICOM file, elements to show beside its score.

    Returns:
        Header, None if it cannot be read, and the values by keyword, see `values_of`; none for other files.
    """
    values: dict[str, str | None] = {}
    try:
        if isinstance(path, Path) and not path.is_file():  # a pipe would block
            return None, values
        with path.open("rb") if isinstance(path, Path) else io.BytesIO(path.content) as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            if is_dicom(head, path.suffix):
                ds = read_elements(file, [*HEADER_ELEMENTS, *FACT_ELEMENTS, *(tag.number for tag in tags)])
                values = values_of(ds, tags)
                width, height, kind = read_dicom_header(ds)
                return Header(width, height, f"DICOM {kind}", facts_of(ds)), values
            with open_picture(file) as image:
                return Header(*image.size, f"{image.format} {image.mode}"), values
    except Exception:  # damaged files raise any exception; the scan of all images reports the reason
        return None, values


def read_told(samples: list[Sample], *, part: str, num_threads: int) -> list[Facts]:
    """Read what at most `MAX_ASPECTS` samples tell of their kind.

    A view that the data set names counts before that of the header. A body part counts after it.

    Args:
        samples: samples of a data set.
        part: body part that all of its images show; empty if it is not known.
        num_threads: threads that read.
    """
    drawn = [samples[i] for i in draw_places(len(samples), most=MAX_ASPECTS)]
    told = []
    for sample, header in zip(drawn, read_headers(drawn, num_threads=num_threads), strict=True):
        facts = {"part": part_of_words(sample.part or part), **(header.facts if header else {})}
        facts["view"] = view_of_words(sample.view) or facts.get("view")
        told.append({name: value for name, value in facts.items() if value is not None})
    return told


def _read_header(sample: Sample) -> Header | None:
    """Read the header of a sample; None if it cannot be read."""
    if sample.row is None:
        return read_file_header(sample.path)
    try:
        height, width, *colours = row_shape(sample)
    except Exception:  # as above
        return None
    return Header(width, height, "array, RGB" if colours else "array, grey")
