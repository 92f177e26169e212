"""Any radiograph file to one grey array."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from salad.errors import InputError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

GreyImage = NDArray[np.uint8]


def read_image(path: Path, *, isize: int, resize: str) -> GreyImage:
    """Decode a file to a square grey image.

    Grey, RGB, RGBA, palette and CMYK files of the same picture give the same image. Deeper files (16 bit,
    32 bit, float) are stretched from their own range to 8 bits. Rotation noted in EXIF is applied.

    Args:
        path: a file with one of `IMAGE_SUFFIXES`.
        isize: S, in pixels.
        resize: ``squash`` (to the square, whatever the shape), ``pad`` (the longer side fits, black around)
            or ``crop`` (the shorter side fits, the middle is kept).

    Returns:
        (S, S), uint8.

    Raises:
        InputError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            grey = _to_grey(ImageOps.exif_transpose(image))
            return np.asarray(_to_square(grey, isize, resize))
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image, or of an unknown format") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: too large to be decoded safely ({error})") from None
    except (OSError, ValueError, SyntaxError, struct.error) as error:  # truncated, damaged or unreadable
        raise InputError(f"{path}: cannot be read as an image ({error})") from None


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        low, high = values.min(), values.max()
        if not np.isfinite(high - low):
            raise ValueError("NaN or infinite pixels")
        return Image.fromarray(np.uint8(np.rint((values - low) * (255 / max(high - low, 1e-12)))))
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may carry transparency, which "L" alone would warn about
    return image.convert("L")


def _to_square(grey: Image.Image, isize: int, resize: str) -> Image.Image:
    square, bilinear = (isize, isize), Image.Resampling.BILINEAR
    if resize == "pad":
        return ImageOps.pad(grey, square, bilinear)
    if resize == "crop":
        return ImageOps.fit(grey, square, bilinear)
    return grey.resize(square, bilinear)
