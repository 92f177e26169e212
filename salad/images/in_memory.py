"""Images that a caller hands over: paths, numpy arrays, torch tensors, one or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salad.errors import InputError, printable
from salad.images.decoder import Decoder
from salad.images.read import MAX_PIXELS, GreyImage, read_image, stretch, to_square

CHANNELS = 1, 3, 4  # grey, RGB, RGBA
FORMS = "(H, W), (N, H, W), (N, H, W, 3) or (N, 3, H, W)"

Source = Path | NDArray[Any]
"""One image: a file, or its pixels (H, W) or (H, W, C), C one of `CHANNELS`."""


def images_of(images: object) -> Iterator[Source]:
    """The single images of what was handed over, in order.

    Args:
        images: a path; an array or a tensor (H, W), (N, H, W), (H, W, 3 or 4), (N, H, W, C) or (N, C, H, W); or
            anything that gives paths and single images one after the other, of different sizes too. Three
            dimensions are N grey images unless the last one is 3 or 4.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(images, (str, Path)):
        yield Path(images)
        return
    if not _is_tensor(images) and (not isinstance(images, np.ndarray) or images.dtype.kind in "OSU"):
        if not isinstance(images, Iterable):
            raise InputError(f"an image is a path, a numpy array or a torch tensor, not {type(images).__name__}")
        for image in images:
            yield Path(image) if isinstance(image, (str, Path)) else _one(_as_array(image))
        return
    array = _as_array(images)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS[1:]):
        yield array
    elif array.ndim in (3, 4):
        yield from map(_one, array)
    else:
        raise InputError(f"an array of shape {array.shape}: images are {FORMS}")


def read_source(source: Source, decoder: Decoder) -> GreyImage:
    """One image as a square grey one; an array goes through the steps that a file of the same pixels does.

    Args:
        source: a file, or an array (H, W) or (H, W, C). uint8 is taken as it is; whole numbers of another kind and
            floats are spread from their own range over 0 to 255, as those of a 16-bit or float file are; False is
            black and True white. Colours must be uint8.
        decoder: says how.

    Returns:
        (S, S), uint8.

    Raises:
        InputError: the file cannot be read; or the array has no pixels or too many, is of another type, or holds NaN
            or infinite ones.
    """
    if isinstance(source, Path):
        return read_image(source, isize=decoder.isize, resize=decoder.resize, trim=decoder.trim)
    height, width = source.shape[:2]
    if not 0 < height * width <= MAX_PIXELS:
        raise InputError(f"an array of {width} x {height} pixels; from 1 to {MAX_PIXELS:,} (8192 x 8192) are read")
    return np.asarray(to_square(_to_grey(source), decoder.isize, decoder.resize, trim=decoder.trim))


def shown_name(source: Source) -> str:
    """What messages call an image."""
    return printable(source) if isinstance(source, Path) else f"an array of shape {source.shape}"


def _to_grey(pixels: NDArray[Any]) -> Image.Image:
    if pixels.dtype.kind not in "buif":
        raise InputError(f"an array of {pixels.dtype}: pixels are whole numbers or floats")
    if pixels.ndim == 3 and pixels.dtype != np.uint8:
        raise InputError(f"a colour image of {pixels.dtype}: convert it to uint8 (0 to 255), or to one grey channel")
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    elif pixels.dtype != np.uint8:
        pixels = stretch(pixels)
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("L")


def _one(array: NDArray[Any]) -> NDArray[Any]:
    """A single image with its channels, if it has several, behind."""
    if array.ndim == 3 and array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS:
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        return array
    raise InputError(f"an image of shape {array.shape}: one is (H, W), (H, W, 3) or (3, H, W), many are {FORMS}")


def _is_tensor(value: object) -> bool:
    return hasattr(value, "detach")  # torch need not be imported to look at a list of paths


def _as_array(image: Any) -> NDArray[Any]:
    if _is_tensor(image):
        image = image.detach().cpu()
        return np.asarray(image.float() if str(image.dtype) == "torch.bfloat16" else image)  # numpy has no bfloat16
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image is a path, a numpy array or a torch tensor, not {type(image).__name__}")
    return image
