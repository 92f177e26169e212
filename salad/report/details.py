"""An explanation of a test image as pictures for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from salad.errors import printable
from salad.images.threads import map_in_chunks

if TYPE_CHECKING:
    from salad.explaining.explain import Explainer
    from salad.explaining.explanation import Explanation, Neighbour
    from salad.images.preprocessing import Preprocessing
    from salad.samples import Images

MAX_SIDE = 224  # of a picture, in pixels
NEIGHBOUR_SIDE = 96
HEATS = ("score", "memory", "error")  # the maps, the one that tells most first


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What explains the score of one image.

    Attributes:
        input: the image in the frame in which it was scored, (T, T) uint8, T at most `MAX_SIDE`.
        heat: the map over it that tells most, (T, T, 3) uint8, the first of `HEATS` that there is; None without one.
        pictures: ``input`` and, where there are such, ``recon``, ``error``, ``score`` and ``memory``, as data URIs.
        neighbours: name, how far it is, and picture or None, of the nearest normal images.
        scales: what the colours of each map begin and end at; the same for all images.
    """

    input: np.ndarray
    heat: np.ndarray | None
    pictures: dict[str, str]
    neighbours: list[tuple[str, str, str | None]]
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
    score = found.score_map
    every: dict[str, np.ndarray | None] = {
        "input": found.scored_pixels,
        "recon": found.recon,
        "error": found.error_overlay,
        "score": None if score is None else score.overlay,
        "memory": found.memory_overlay,
    }
    pictures = {name: pixels for name, pixels in every.items() if pixels is not None}
    heat = next((pictures[name] for name in HEATS if name in pictures), None)
    unit = "standard deviations above validation normals" if found.is_standardized else "of 2, black for white"
    scales = {"error": _scale(found.error_range, unit), "memory": _scale(found.memory_range, "of one minus a cosine")}
    if score is not None:
        scales["score"] = _scale(score.between, f"standard deviations above {score.normals} normals")
    return Detail(
        input=smaller(found.scored_pixels, most=MAX_SIDE),
        heat=None if heat is None else smaller(heat, most=MAX_SIDE),
        pictures={name: data_uri(pixels, most=MAX_SIDE) for name, pixels in pictures.items()},
        neighbours=[
            (printable(one.name), _far(one), None if one.pixels is None else data_uri(one.pixels, most=NEIGHBOUR_SIDE))
            for one in found.neighbours
        ],
        scales=scales,
    )


def _far(one: Neighbour) -> str:
    return f"{one.distance:.4g}" if one.angle is None else f"{one.angle:.4f} π"


def _scale(ends: tuple[float, float], unit: str) -> str:
    return f"colours from {ends[0]:.2g} to {ends[1]:.2g} {unit}"


QUALITY = 75


def data_uri(pixels: np.ndarray, *, most: int) -> str:
    """A WebP picture as text.

    Args:
        pixels: (H, W) or (H, W, 3), uint8.
        most: pixels along its longer side; larger ones are made smaller.
    """
    buffer = io.BytesIO()
    Image.fromarray(smaller(pixels, most=most)).save(buffer, "WEBP", quality=QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def smaller(pixels: np.ndarray, *, most: int) -> np.ndarray:
    """The same (H, W) or (H, W, 3), uint8, with at most so many pixels along its longer side."""
    image = Image.fromarray(pixels)
    image.thumbnail((most, most))
    return np.asarray(image)


def read_pixels(images: Images, places: list[int], *, num_threads: int) -> torch.Tensor:
    """Some images as loader batches give them: (len(places), 1, S, S), uint8.

    Raises:
        InputError: a file cannot be read.
    """

    def read(place: int) -> np.ndarray:
        pixels = np.empty((1, images.isize, images.isize), np.uint8)
        images.read([place], pixels)
        return pixels

    return torch.from_numpy(np.stack(map_in_chunks(read, places, num_threads=num_threads, size=16)))


def thumbnails(
    images: Images, places: list[int], *, preprocessing: Preprocessing, most: int, num_threads: int, block: int = 128
) -> list[str]:
    """Small pictures of some images as the network sees them.

    Args:
        images: where their pixels come from.
        places: which.
        preprocessing: what becomes of them.
        most: pixels along a side.
        num_threads: threads that read.
        block: images that are held at a time.

    Raises:
        InputError: a file cannot be read.
    """
    pictures = []
    for start in range(0, len(places), block):
        grey = preprocessing(read_pixels(images, places[start : start + block], num_threads=num_threads))
        pictures += [data_uri(pixels, most=most) for pixels in grey[:, 0].numpy()]
    return pictures
