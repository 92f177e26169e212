"""Measure baseline AUCs without a model, from grey levels, file size and image size; never on test before training."""

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
    """Baseline AUCs on val; larger values count as more anomalous.

    Attributes:
        aucs: AUC by name of the measured value; None if the value is unknown for an image, or equal for all.
        num_images: number of measured images.
        is_sample: True for a sample of val, False for all of val.
    """

    aucs: dict[str, Auc | None]
    num_images: int
    is_sample: bool

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        aucs = {name: value and value.as_json() for name, value in self.aucs.items()}
        return {"auc": aucs, "num_images": self.num_images, "is_sample": self.is_sample, "interval": "DeLong, 95 %"}


def measure_baselines(split: Split, *, decoder: Decoder, num_threads: int) -> Baselines | None:
    """Measure the baselines on val, or on a sample of it that is the same every time.

    Args:
        split: val; pixels come from its `images` if it has been scanned, else they are decoded.
        decoder: decoder of the run.
        num_threads: number of threads that read.

    Returns:
        The baselines, without images that cannot be read; None if a class is missing.
    """
    indices = draw_places(len(split.samples))
    read = partial(_grey_levels, read=_reader(split, decoder))
    levels = dict(zip(indices, map_in_chunks(read, indices, num_threads=num_threads, size=8), strict=True))
    known = [image_levels for image_levels in levels.values() if image_levels]
    samples = [split.samples[i] for i, image_levels in levels.items() if image_levels]
    labels = [sample.label for sample in samples]
    if len(set(labels)) < 2:
        return None
    headers = read_headers(samples, num_threads=num_threads)
    values: dict[str, Sequence[float | None]] = {
        **{
            f"image {name}": [float(image_levels[i][0]) for image_levels in known]
            for i, name in enumerate(GreyLevels._fields)
        },
        "file size": file_sizes(samples, num_threads=num_threads),
        "image size": [header.width * header.height if header else None for header in headers],
    }
    aucs = {name: _auc(labels, column) for name, column in values.items()}
    return Baselines(aucs=aucs, num_images=len(samples), is_sample=len(indices) < len(split.samples))


def _auc(labels: list[int], values: Sequence[float | None]) -> Auc | None:
    known = [value for value in values if value is not None]
    return auc(labels, known) if len(known) == len(labels) and len(set(known)) > 1 else None


def _reader(split: Split, decoder: Decoder) -> Callable[[int], GreyImage]:
    """Make a function that reads the pixels of a sample by its index."""
    if split.images is None:
        return lambda i: decoder.read(split.samples[i])
    images = split.images

    def read(i: int) -> GreyImage:
        pixels: GreyImage = np.empty((images.isize, images.isize), np.uint8)
        images.read([i], pixels[None])
        return pixels

    return read


def _grey_levels(i: int, *, read: Callable[[int], GreyImage]) -> GreyLevels | None:
    """Measure the grey levels of one image; return None if it cannot be read."""
    try:
        pixels = read(i)
    except InputError:
        return None
    return measure_grey_levels(pixels[None])
