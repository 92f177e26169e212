"""Read images that a caller passes in: paths, numpy arrays or torch tensors, one or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salad.errors import InputError, printable, refuse_shortage
from salad.images.decoder import Decoder
from salad.images.deep import deep_to_grey, is_opaque
from salad.images.find import expand
from salad.images.read import MAX_PIXELS, FileContent, GreyImage, read_image, to_grey, to_square
from salad.images.stretch import stretch

CHANNELS = 1, 2, 3, 4  # grey, grey and alpha, RGB, RGBA; no film has a side of so few pixels
FORMS = "(H, W), (N, H, W), (N, H, W, 3) or (N, 3, H, W)"
ONE = "(H, W), (H, W, 3) or (3, H, W)"

Source = Path | FileContent | NDArray[Any]
"""Single image: a file, the content of a file, or pixels (H, W), (H, W, 3) or (H, W, 4)."""


def images_of(images: object) -> Iterator[Source]:
    """Split the input into single images, in order.

    Args:
        images: a path of a file or a folder; an array or a tensor (H, W), (H, W, C), (N, H, W), (N, H, W, C) or
            (N, C, H, W); or an iterable of such paths and of single images, whose sizes may differ; C is 1 for grey, 3
            for RGB and 4 for RGBA, or 2 for grey with an opaque alpha, but not as (2, H, W). Of three dimensions, the
            last one is the channels if it is at most 4, and else the first one the images. Yet three or four planes of
            which the first three are alike are one image (3 or 4, H, W), and a tensor of three or four others, which
            torchvision would take for one, is refused: as (1, 3, H, W) it is one image, as (3, 1, H, W) three.

    Yields:
        A path of a file, or an array (H, W), (H, W, 3) or (H, W, 4). A folder gives all images below it: its own by
        name, then those of each sub-folder. What else lies there is counted in the log.

    Raises:
        InputError: the input is none of these, or a folder holds no image.
    """
    if isinstance(images, (str, Path)):
        yield from expand(Path(images), say_empty=_refuse)
        return
    if not _is_tensor(images) and (not isinstance(images, np.ndarray) or images.dtype.kind in "OSU"):
        if not isinstance(images, Iterable):
            raise InputError(f"an image is a path, a numpy array or a torch tensor, not {type(images).__name__}")
        for image in images:
            yield from (
                expand(Path(image), say_empty=_refuse)
                if isinstance(image, (str, Path))
                else [_single(_as_array(image))]
            )
        return
    array = _as_array(images)
    if array.ndim == 2 or (array.ndim == 3 and (array.shape[2] in CHANNELS or _has_like_planes(array))):
        yield _single(array)
    elif array.ndim == 3 and len(array) in CHANNELS[2:] and _is_tensor(images):
        count = len(array)
        raise InputError(
            f"a tensor of shape {array.shape} is one colour image or {count} grey ones: "
            f"give it as (1, {count}, H, W) or as ({count}, 1, H, W)"
        )
    elif array.ndim == 4 or (array.ndim == 3 and array.shape[1] not in CHANNELS):
        yield from map(_single, array)
    else:
        raise InputError(f"an array of shape {array.shape}: images are {FORMS}")


def _refuse(reason: str) -> NoReturn:
    raise InputError(reason)


def read_source(source: Source, decoder: Decoder) -> GreyImage:
    """Decode a single image to a square grey one; an array takes the same steps as a file of the same pixels.

    Args:
        source: a file, its content, or an array (H, W) or (H, W, C). Of an array, uint8 values are kept; other integers
            and floats are stretched from their own range to 0..255, like 16-bit and float files. False is black and
            True white. Colour images must be uint8 or uint16, unless R, G and B are alike; what is transparent lies on
            black.
        decoder: settings of size, resizing and trimming.

    Returns:
        (S, S), uint8.

    Raises:
        InputError: the file cannot be read; or the array has no pixels or too many, another type, or NaN or infinite
            pixels.
    """
    if isinstance(source, (Path, FileContent)):
        return read_image(source, isize=decoder.isize, resize=decoder.resize, trim=decoder.trim)
    height, width = source.shape[:2]
    if not 0 < height * width <= MAX_PIXELS:
        raise InputError(f"an array of {width} x {height} pixels; from 1 to {MAX_PIXELS:,} (8192 x 8192) are read")
    return np.asarray(to_square(_to_grey(source), decoder.isize, decoder.resize, trim=decoder.trim))


def shown_name(source: Source) -> str:
    """Name of an image in messages."""
    if isinstance(source, FileContent):
        return "the content of a file"
    return printable(source) if isinstance(source, Path) else f"an array of shape {source.shape}"


def _to_grey(pixels: NDArray[Any]) -> Image.Image:
    """Convert an array (H, W) or (H, W, C) to a grey image (mode L)."""
    if pixels.dtype.kind not in "buif":
        raise InputError(f"an array of {pixels.dtype}: pixels are whole numbers or floats")
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    if pixels.dtype != np.uint8:
        return Image.fromarray(deep_to_grey(pixels) if pixels.ndim == 3 else stretch(pixels))
    return to_grey(Image.fromarray(np.ascontiguousarray(pixels)))


def _has_like_planes(array: NDArray[Any]) -> bool:
    """Detect the planes of one grey image, as (3, H, W) or with alpha as (4, H, W); constant planes may be films."""
    planes = array[:3]
    is_like = len(array) in CHANNELS[2:] and array.dtype.kind in "buif" and bool((planes == planes[0]).all())
    if is_like and len(array) == 4 and (array[3] == planes[0]).all():
        return False  # a film four times
    return is_like and array[0].size > 0 and bool((planes[0] != planes[0].flat[0]).any())


def _single(array: NDArray[Any]) -> NDArray[Any]:
    """Check that an array is a single image, and move its channels, if it has several, to the last dimension."""
    shape = array.shape
    if array.ndim == 3 and shape[2] in CHANNELS and shape[0] in CHANNELS:
        raise InputError(f"an image of shape {shape}: the channels are the first dimension or the last: give {ONE}")
    if array.ndim == 3 and shape[0] in CHANNELS and shape[0] != 2:
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 2:
        if not is_opaque(array[..., 1]):
            raise InputError(f"an image of shape {shape} whose second channel is no opaque alpha: give {ONE}")
        array = array[..., :1]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        return array
    raise InputError(f"an image of shape {shape}: a single image is {ONE}, several are {FORMS}")


def _is_tensor(value: object) -> bool:
    """Detect a torch tensor without importing torch, which a list of paths does not need."""
    return hasattr(value, "detach")


def _as_array(image: Any) -> NDArray[Any]:
    """Convert a tensor to an array; arrays pass through."""
    if _is_tensor(image):
        try:
            is_short = str(image.dtype).startswith(("torch.bfloat16", "torch.float8"))  # numpy has none of these
            pixels: NDArray[Any] = (image.float() if is_short else image).numpy(force=True)
        except Exception as error:  # sparse, nested, quantised, without content
            refuse_shortage(error, "a tensor")
            raise InputError(
                f"a tensor of {image.dtype}, {image.layout}, cannot be read: make it a dense array"
            ) from None
        return pixels
    if np.ma.is_masked(image):
        raise InputError("a masked array: fill the masked pixels with a value")
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image is a path, a numpy array or a torch tensor, not {type(image).__name__}")
    return image
