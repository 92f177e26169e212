"""Read expert marks of an image, boxes or a mask, in the square that the network sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from salad.images.decoder import Decoder
from salad.images.read import read_marks, read_whole, to_square
from salad.images.trim import find_frame
from salad.samples import Sample

TOLERANCE = 0.02  # share of a side by which a box may reach beyond the image


def read_mask(sample: Sample, decoder: Decoder) -> NDArray[np.bool_] | None:
    """Read the marked pixels of an image, trimmed, padded, cropped and resized in the same way as the image.

    Args:
        sample: image with boxes or a mask.
        decoder: decoder of the image.

    Returns:
        True at marked pixels, (S, S); None if a box lies outside the image, because the box then belongs to another
        image.

    Raises:
        InputError: the image or its mask cannot be read.
    """
    grey = read_whole(sample.path)
    if sample.mask is not None:
        mask = read_marks(sample.mask).resize(grey.size, Image.Resampling.NEAREST)
    else:
        mask = Image.new("L", grey.size)
        for left, top, right, bottom in sample.boxes:
            far = max(-left / grey.width, -top / grey.height, right / grey.width - 1, bottom / grey.height - 1)
            if far > TOLERANCE:
                return None
            # Pillow's rectangle includes its last row and column
            ImageDraw.Draw(mask).rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), fill=255)
    if decoder.trim:
        mask = mask.crop(find_frame(grey))
    levels = np.asarray(to_square(mask, decoder.isize, decoder.resize))
    marked = levels >= 128
    return marked if marked.any() else levels > 0  # keep marks smaller than a pixel of the square
