"""Pixels as pictures inside a page, and those of the images that it shows."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from salad.datasets.threads import map_in_chunks

if TYPE_CHECKING:
    from salad.datasets.preprocess import Preprocessing
    from salad.datasets.sample import Images

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
