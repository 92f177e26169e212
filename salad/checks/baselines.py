"""AUCs of what needs no model: grey levels, file size, image size. Never measured on test before a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from salad.checks.duplicates import file_sizes
from salad.errors import InputError
from salad.evaluation.metrics import Auc, auc
from salad.images.decoder import Decoder
from salad.images.grey_levels import GreyLevels, measure_grey_levels
from salad.images.headers import draw_places, read_headers
from salad.images.read import GreyImage
from salad.images.threads import map_in_chunks
from salad.samples import Split


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """AUCs on val, by what they are of; larger values count as more anomalous.

    Attributes:
        aucs: None where it is not known of every image, or the same of all.
        num_images: all of val, or a sample.
        is_sample: which of these.
    """

    aucs: dict[str, Auc | None]
    num_images: int
    is_sample: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        aucs = {name: found and found.as_json() for name, found in self.aucs.items()}
        return {"auc": aucs, "num_images": self.num_images, "is_sample": self.is_sample, "interval": "DeLong, 95 %"}


def measure_baselines(split: Split, *, decoder: Decoder, num_threads: int) -> Baselines | None:
    """Measure val, or the same sample of it every time.

    Args:
        split: val; its pixels are taken from `images` where it has been scanned, else decoded.
        decoder: of the run.
        num_threads: threads that read.

    Returns:
        None where a class is missing; images that cannot be read are left out.
    """
    places = draw_places(len(split.samples))
    read = partial(_grey_levels, read=_reader(split, decoder))
    levels = dict(zip(places, map_in_chunks(read, places, num_threads=num_threads, size=8), strict=True))
    known = [one for one in levels.values() if one]
    samples = [split.samples[i] for i, one in levels.items() if one]
    labels = [sample.label for sample in samples]
    if len(set(labels)) < 2:
        return None
    headers = read_headers(samples, num_threads=num_threads)
    values: dict[str, Sequence[float | None]] = {
        **{f"image {name}": [float(one[i][0]) for one in known] for i, name in enumerate(GreyLevels._fields)},
        "file size": file_sizes(samples, num_threads=num_threads),
        "image size": [header.width * header.height if header else None for header in headers],
    }
    aucs = {name: _auc(labels, each) for name, each in values.items()}
    return Baselines(aucs=aucs, num_images=len(samples), is_sample=len(places) < len(split.samples))


def _auc(labels: list[int], values: Sequence[float | None]) -> Auc | None:
    known = [value for value in values if value is not None]
    return auc(labels, known) if len(known) == len(labels) and len(set(known)) > 1 else None


def _reader(split: Split, decoder: Decoder) -> Callable[[int], GreyImage]:
    """From the place of a sample to its pixels."""
    if split.images is None:
        return lambda i: decoder.read(split.samples[i])
    images = split.images

    def read(i: int) -> GreyImage:
        pixels: GreyImage = np.empty((images.isize, images.isize), np.uint8)
        images.read([i], pixels[None])
        return pixels

    return read


def _grey_levels(i: int, *, read: Callable[[int], GreyImage]) -> GreyLevels | None:
    """Of an image, on its own; None where it cannot be read."""
    try:
        pixels = read(i)
    except InputError:
        return None
    return measure_grey_levels(pixels[None])
