"""Convert explanations of test images to pictures for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

from salad.errors import printable
from salad.evaluation.calibration import shown_score
from salad.explaining.maps import ErrorMap, HeatMap, ScoreMap
from salad.explaining.overlays import scales_of
from salad.images.threads import map_in_chunks

if TYPE_CHECKING:
    from salad.explaining.explain import Explainer
    from salad.explaining.explanation import Explanation, Neighbour
    from salad.explaining.overlays import Scale
    from salad.images.preprocessing import Preprocessing
    from salad.samples import Images, Split

MAX_SIDE = 224  # of a picture, in pixels
LAYER_SIDE = 384  # of the map of the score alone, whose line has to stay thin
NEIGHBOUR_SIDE = 96  # of the picture of a neighbour, in pixels
HEATS = ("score", "memory", "error")  # kinds of map, the most informative first


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Explanation of the score of one image.

    Attributes:
        input: image, (T, T) uint8, T at most `most` of `detail_of`: the whole film where a map of the score lies in it,
            else as it was scored.
        heat: overlay of the first map of `HEATS` that the image has, (T, T, 3) uint8; None without a map.
        pictures: ``input`` and, where they exist, ``recon``, ``error``, ``score`` and ``memory``, and ``layer``, the
            map of the score alone, to lay over the input, as data URIs.
        neighbours: name, distance as text, and picture (None without one) of the nearest normal images.
        scales: range of the colours of each map as text, the same for all images.
        sentence: what drove the score; empty for scores without a map.
        places: places of the largest values of the map of the score.
        heat_scale: scale of the colours of `heat`; None without a map.
    """

    input: np.ndarray
    heat: np.ndarray | None
    pictures: dict[str, str]
    neighbours: list[tuple[str, str, str | None]]
    scales: dict[str, str]
    sentence: str = ""
    places: Sequence[ShownPlace] = ()
    heat_scale: Scale | None = None


class ShownPlace(NamedTuple):
    """Place of a map, as `Place`, with its position in words."""

    words: str
    x: float
    y: float
    value: float
    ratio: float


def explain_cases(
    explainer: Explainer, split: Split, places: Sequence[int], *, batch_size: int, num_threads: int
) -> Iterator[Detail]:
    """Explain images in batches.

    Args:
        explainer: of the model that scored the images.
        split: scanned images, with the views that tell their sides.
        places: indices of the images to explain.
        batch_size: number of images in a batch.
        num_threads: number of threads that read.

    Yields:
        The details, in the order of the indices.

    Raises:
        InputError: a file cannot be read.
    """
    assert split.images is not None, "scanned"
    for start in range(0, len(places), batch_size):
        batch = list(places[start : start + batch_size])
        grey = read_pixels(split.images, batch, num_threads=num_threads)
        for index, explanation in zip(batch, explainer.explain(grey), strict=True):
            yield detail_of(explanation, view=split.samples[index].view)


def detail_of(explanation: Explanation, *, view: str | None, most: int = MAX_SIDE, is_lossless: bool = False) -> Detail:
    """Convert an explanation to pictures.

    Args:
        explanation: explanation of an image.
        view: view of the X-ray, which tells the side of the patient; None if it is unknown.
        most: pixels along a side of the pictures of the image.
        is_lossless: whether the pictures are PNG instead of WebP.
    """
    score, maps = explanation.score_map, explanation.maps
    pictures = {"input": explanation.pixels if score is None else score.film}
    if explanation.recon is not None:
        pictures["recon"] = explanation.recon
    pictures |= {
        kind: found.film_overlay if isinstance(found, ScoreMap) else found.overlay for kind, found in maps.items()
    }
    if score is not None:
        pictures["layer"] = score.film_layer(LAYER_SIDE)
    kind = next(iter(maps), None)
    return Detail(
        input=smaller(pictures["input"], most=most),
        heat=None if kind is None else smaller(pictures[kind], most=most),
        heat_scale=None if kind is None else scales_of(explanation)[kind],
        pictures={
            name: data_uri(pixels, most=LAYER_SIDE if name == "layer" else most, is_lossless=is_lossless)
            for name, pixels in pictures.items()
        },
        neighbours=[
            (
                printable(neighbour.name),
                _far(neighbour),
                None
                if neighbour.pixels is None
                else data_uri(neighbour.pixels, most=NEIGHBOUR_SIDE, is_lossless=is_lossless),
            )
            for neighbour in explanation.neighbours
        ],
        scales={kind: _scale(found) for kind, found in maps.items()},
        sentence="" if score is None else explanation.sentence_in(view),
        places=[] if score is None else [ShownPlace(place.words(view), *place) for place in score.places],
    )


def _far(neighbour: Neighbour) -> str:
    return f"{neighbour.distance:.4f} π" if neighbour.is_angle else shown_score(neighbour.distance)


def _scale(found: HeatMap) -> str:
    """Describe the colours of a map, the same for all images."""
    if isinstance(found, ScoreMap):
        share = f"{100 * found.specificity:g} % of {found.normals} normals"
        return f"line at {found.threshold:.2g}, which the maps of {share} stay below"
    unit = "in 1 - cosine"
    if isinstance(found, ErrorMap):
        unit = "standard deviations above validation normals" if found.is_standardized else "of at most 2"
    return f"colours from {found.between[0]:.2g} to {found.between[1]:.2g} {unit}"


QUALITY = 75


def data_uri(pixels: np.ndarray, *, most: int, is_lossless: bool = False) -> str:
    """Encode pixels as WebP in a data URI.

    Args:
        pixels: (H, W), (H, W, 3) or, with an opacity, (H, W, 4), uint8.
        most: pixels along the longer side; larger pictures are scaled down.
        is_lossless: True for PNG.
    """
    form = "PNG" if is_lossless else "WEBP"
    buffer = io.BytesIO()
    Image.fromarray(smaller(pixels, most=most)).save(buffer, form, quality=QUALITY, method=2)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def smaller(pixels: np.ndarray, *, most: int) -> np.ndarray:
    """Scale a picture, (H, W) or (H, W, 3), uint8, down to at most `most` pixels along its longer side."""
    image = Image.fromarray(pixels)
    image.thumbnail((most, most))
    return np.asarray(image)


def read_pixels(images: Images, places: list[int], *, num_threads: int) -> torch.Tensor:
    """Read the images with these indices, shaped like a batch of the loader: (len(places), 1, S, S), uint8.

    Raises:
        InputError: a file cannot be read.
    """

    def read(index: int) -> np.ndarray:
        pixels = np.empty((1, images.isize, images.isize), np.uint8)
        images.read([index], pixels)
        return pixels

    return torch.from_numpy(np.stack(map_in_chunks(read, places, num_threads=num_threads, size=16)))


def thumbnails(
    images: Images, places: list[int], *, preprocessing: Preprocessing, most: int, num_threads: int, block: int = 128
) -> list[str]:
    """Make thumbnails of images as the network sees them.

    Args:
        images: images to read from.
        places: indices of the images.
        preprocessing: steps from decoded pixels to the input of the network.
        most: pixels along a side.
        num_threads: number of threads that read.
        block: number of images in memory at a time.

    Returns:
        Data URIs, in the order of the indices.

    Raises:
        InputError: a file cannot be read.
    """
    pictures = []
    for start in range(0, len(places), block):
        grey = preprocessing(read_pixels(images, places[start : start + block], num_threads=num_threads))
        pictures += [data_uri(pixels, most=most) for pixels in grey[:, 0].numpy()]
    return pictures
