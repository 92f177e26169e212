"""An explanation of a test image as pictures for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salad.datasets.sample import printable
from salad.report.pictures import data_uri, read_pixels, smaller

if TYPE_CHECKING:
    from salad.datasets.sample import Images
    from salad.explain import Explainer, Explanation

MAX_SIDE = 224  # of a picture, in pixels
NEIGHBOUR_SIDE = 96


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What explains the score of one image.

    Attributes:
        input: the image as the network sees it, (T, T) uint8, T at most `MAX_SIDE`.
        heat: the map over it that tells most, (T, T, 3) uint8: of the memory, or else of the error.
        pictures: ``input``, ``recon``, ``error`` and, where there is one, ``memory``, as data URIs.
        neighbours: name, angle as a fraction of pi, and picture or None, of the nearest normal images.
        scales: what the colours of each map begin and end at; the same for all images.
    """

    input: np.ndarray
    heat: np.ndarray
    pictures: dict[str, str]
    neighbours: list[tuple[str, float, str | None]]
    scales: dict[str, str]


def explain_cases(
    explainer: Explainer, images: Images, places: Sequence[int], *, batch_size: int, num_threads: int
) -> Iterator[Detail]:
    """A detail of each place, in their order.

    Raises:
        InputError: a file cannot be read.
    """
    for start in range(0, len(places), batch_size):
        grey = read_pixels(images, list(places[start : start + batch_size]), num_threads=num_threads)
        yield from map(_detail, explainer.explain(grey))


def _detail(found: Explanation) -> Detail:
    error, memory = found.error_overlay, found.memory_overlay
    unit = "standard deviations above validation normals" if found.is_standardized else "of 2, black for white"
    pictures = {"input": found.pixels, "recon": found.recon, "error": error}
    if memory is not None:
        pictures["memory"] = memory
    return Detail(
        input=smaller(found.pixels, most=MAX_SIDE),
        heat=smaller(error if memory is None else memory, most=MAX_SIDE),
        pictures={name: data_uri(pixels, most=MAX_SIDE) for name, pixels in pictures.items()},
        neighbours=[
            (
                printable(one.name),
                one.angle,
                None if one.pixels is None else data_uri(one.pixels, most=NEIGHBOUR_SIDE),
            )
            for one in found.neighbours
        ],
        scales={
            "error": _scale(found.error_range, unit),
            "memory": _scale(found.memory_range, "of one minus a cosine"),
        },
    )


def _scale(ends: tuple[float, float], unit: str) -> str:
    return f"colours from {ends[0]:.2g} to {ends[1]:.2g} {unit}"
