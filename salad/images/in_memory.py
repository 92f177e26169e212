"""Read images that a caller passes in: paths, numpy arrays or torch tensors, one or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salad.errors import InputError, printable
from salad.images.decoder import Decoder
from salad.images.read import MAX_PIXELS, GreyImage, read_image, to_square
from salad.images.stretch import stretch

CHANNELS = 1, 3, 4  # grey, RGB, RGBA
FORMS = "(H, W), (N, H, W), (N, H, W, 3) or (N, 3, H, W)"

Source = Path | NDArray[Any]
"""Single image: a file, or its pixels (H, W) or (H, W, C), with C one of `CHANNELS`."""


def images_of(images: object) -> Iterator[Source]:
    """Split the input into single images, in order.

    Args:
        images: a path; an array or a tensor (H, W), (N, H, W), (H, W, 3 or 4), (N, H, W, C) or (N, C, H, W); or
            an iterable of paths and single images, whose sizes may differ. An array of three dimensions is N grey
            images unless the last dimension is 3 or 4.

    Yields:
        A path, or an array (H, W) or (H, W, C).

    Raises:
        InputError: the input is none of these.
    """
    if isinstance(images, (str, Path)):
        yield Path(images)
        return
    if not _is_tensor(images) and (not isinstance(images, np.ndarray) or images.dtype.kind in "OSU"):
        if not isinstance(images, Iterable):
            raise InputError(f"an image is a path, a numpy array or a torch tensor, not {type(images).__name__}")
        for image in images:
            yield Path(image) if isinstance(image, (str, Path)) else _single(_as_array(image))
        return
    array = _as_array(images)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS[1:]):
        yield array
    elif array.ndim in (3, 4):
        yield from map(_single, array)
    else:
        raise InputError(f"an array of shape {array.shape}: images are {FORMS}")


def read_source(source: Source, decoder: Decoder) -> GreyImage:
    """Decode a single image to a square grey one; an array takes the same steps as a file of the same pixels.

    Args:
        source: a file, or an array (H, W) or (H, W, C). uint8 values are kept. Other integers and floats are
            stretched from their own range to 0..255, like 16-bit and float files. False is black and True white.
            Colour images must be uint8.
        decoder: settings of size, resizing and trimming.

    Returns:
        (S, S), uint8.

    Raises:
        InputError: the file cannot be read; or the array has no pixels or too many, another type, or NaN or infinite
            pixels.
    """
    if isinstance(source, Path):
        return read_image(source, isize=decoder.isize, resize=decoder.resize, trim=decoder.trim)
    height, width = source.shape[:2]
    if not 0 < height * width <= MAX_PIXELS:
        raise InputError(f"an array of {width} x {height} pixels; from 1 to {MAX_PIXELS:,} (8192 x 8192) are read")
    return np.asarray(to_square(_to_grey(source), decoder.isize, decoder.resize, trim=decoder.trim))


def shown_name(source: Source) -> str:
    """Name of an image in messages."""
    return printable(source) if isinstance(source, Path) else f"an array of shape {source.shape}"


def _to_grey(pixels: NDArray[Any]) -> Image.Image:
    """Convert an array (H, W) or (H, W, C) to a grey image (mode L)."""
    if pixels.dtype.kind not in "buif":
        raise InputError(f"an array of {pixels.dtype}: pixels are whole numbers or floats")
    if pixels.ndim == 3 and pixels.dtype != np.uint8:
        raise InputError(f"a colour image of {pixels.dtype}: convert it to uint8 (0 to 255), or to one grey channel")
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    elif pixels.dtype != np.uint8:
        pixels = stretch(pixels)
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("L")


def _single(array: NDArray[Any]) -> NDArray[Any]:
    """Check that an array is a single image, and move its channels, if it has several, to the last dimension."""
    if array.ndim == 3 and array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS:
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        return array
    raise InputError(
        f"an image of shape {array.shape}: a single image is (H, W), (H, W, 3) or (3, H, W), several are {FORMS}"
    )


def _is_tensor(value: object) -> bool:
    """Detect a torch tensor without importing torch, which a list of paths does not need."""
    return hasattr(value, "detach")


def _as_array(image: Any) -> NDArray[Any]:
    """Convert a tensor to an array; arrays pass through."""
    if _is_tensor(image):
        image = image.detach().cpu()
        return np.asarray(image.float() if str(image.dtype) == "torch.bfloat16" else image)  # numpy has no bfloat16
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image is a path, a numpy array or a torch tensor, not {type(image).__name__}")
    return image
