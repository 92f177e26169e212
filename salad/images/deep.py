"""Keep the full depth of 16-bit colours and 16-bit grey with alpha, which Pillow cuts to 8 bits."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, PLANAR_CONFIGURATION, TiffImageFile

from salad.errors import InputError
from salad.images.open import open_picture
from salad.images.stretch import stretch

Deep = NDArray[np.uint16]

WEIGHTS = 0.299, 0.587, 0.114  # of red, green and blue in grey, as Pillow has them
# Pillow's decoders name the byte order of their input and keep the upper byte of each sample. Named wrongly, they keep
# the lower one.
WRONG = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
READABLE = "RGB", "RGBX", "RGBA"
GREY_AND_ALPHA = "LA;16B"  # read as RGBA, these are grey's upper and lower byte, then those of alpha


def read_deep(image: ImageFile.ImageFile, file: BinaryIO) -> Deep | None:
    """Decode an image of 16-bit colours, or of 16-bit grey with alpha.

    The file is decoded twice: for the upper bytes and for the lower ones.

    Args:
        image: image of `open_picture`, not decoded yet.
        file: its file.

    Returns:
        RGB, with alpha if there is one, (H, W, 3 or 4), in the orientation that EXIF asks for; None if the image is of
        another kind.

    Raises:
        InputError: the image is of a kind whose depth would be lost.
    """
    rawmodes = {_rawmode(tile) for tile in image.tile}
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    bits = tags.get(BITSPERSAMPLE, (8,))
    if len(image.getbands()) == 1 or not (max(bits) > 8 or any(";16" in rawmode for rawmode in rawmodes)):
        return None
    (rawmode, *others) = rawmodes
    kind, order = rawmode[:-4], rawmode[-4:]
    is_known = rawmode == GREY_AND_ALPHA or (kind in READABLE and order in WRONG)
    if others or not is_known or tags.get(PLANAR_CONFIGURATION, 1) != 1:
        raise InputError(f"a {image.format} of 16-bit pixels of a kind that would lose depth: save it as 16-bit grey")
    upper = _decoded(image)
    with open_picture(file) as again:
        lower_rawmode = "RGBA" if rawmode == GREY_AND_ALPHA else kind + WRONG[order]
        again.tile = [tile._replace(args=_with_rawmode(tile.args, lower_rawmode)) for tile in again.tile]
        lower = _decoded(again)
    if rawmode == GREY_AND_ALPHA:
        lower = lower[..., [1, 1, 1, 3]]
    deep: Deep = upper.astype(np.uint16) << np.uint16(8) | lower
    return deep


def deep_to_grey(pixels: NDArray[Any], *, hidden: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """Convert pixels of more than 8 bits with colours or alpha to grey levels.

    Args:
        pixels: grey and alpha, RGB, or RGB and alpha, (H, W, 2 to 4); colours other than grey, and an alpha that hides
            pixels, must be uint16.
        hidden: colour of pixels that are transparent.

    Returns:
        Grey levels, (H, W); what is transparent lies on black.

    Raises:
        InputError: pixels of another type have colours or hide pixels, or a value is NaN or infinite.
    """
    has_alpha = pixels.shape[2] in (2, 4)
    colours, alpha = (pixels[..., :-1], pixels[..., -1]) if has_alpha else (pixels, None)
    grey = colours[..., 0]
    is_coloured = any(not np.array_equal(colours[..., i], grey) for i in range(1, colours.shape[2]))
    is_hiding = alpha is not None and not is_opaque(alpha)
    if pixels.dtype != np.uint16 and (is_coloured or is_hiding):
        what = "a colour image" if is_coloured else "an image with a transparency"
        raise InputError(f"{what} of {pixels.dtype}: convert it to uint8 (0 to 255), or to one grey channel")
    if is_coloured:
        grey = np.rint(sum(weight * colours[..., i] for i, weight in enumerate(WEIGHTS))).astype(np.uint16)
    if alpha is not None and is_hiding:
        grey = np.rint(grey * (alpha / 65535)).astype(np.uint16)
    if hidden is not None:
        grey = np.where((colours == np.array(hidden)).all(axis=2), np.uint16(0), grey)
    return stretch(grey)


def is_opaque(alpha: NDArray[Any]) -> bool:
    """Detect an alpha that hides nothing: the largest value of its type, or 1 of a float, everywhere."""
    most = 1 if alpha.dtype.kind in "fb" else np.iinfo(alpha.dtype).max
    return bool((alpha == most).all())


def _decoded(image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image)


def _rawmode(tile: Any) -> str:
    """Name of the layout of the pixels in a part of a file."""
    args = tile.args[0] if isinstance(tile.args, tuple) else tile.args
    return args if isinstance(args, str) else ""


def _with_rawmode(args: Any, rawmode: str) -> Any:
    return (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode
