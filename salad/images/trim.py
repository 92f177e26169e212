"""Black borders, and frames burnt into a film, cut off."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_CUT = 0.4  # of the height and of the width, both ends together
TOLERANCE = 0.04  # of the image's range: how far a pixel of a uniform line may lie from the middle one
ODD_PIXELS = 0.03  # share of a line that may differ: annotations, dust


def trim_borders(grey: Image.Image) -> Image.Image:
    """Cut off what `find_frame` leaves out."""
    return grey.crop(find_frame(grey))


def find_frame(grey: Image.Image) -> tuple[int, int, int, int]:
    """What is left without uniform rows and columns, from each edge to the first that is not.

    A line is uniform, of any grey level, where all but a few of its pixels are alike. Where more than `MAX_CUT`
    would go, both ends keep their share of what is kept.

    Args:
        grey: mode L.

    Returns:
        Left, top, right and bottom, in pixels.
    """
    pixels = np.asarray(grey)
    tolerance = TOLERANCE * (float(pixels.max()) - float(pixels.min()))
    left, top, right, bottom = 0, 0, grey.width, grey.height
    for _ in range(2):  # rows that end in the frame's other colour turn out uniform once the columns are cut
        top, bottom = _cut(pixels[:, left:right], top, bottom, tolerance)
        left, right = _cut(pixels[top:bottom].T, left, right, tolerance)
    return left, top, right, bottom


def _cut(lines: NDArray[np.uint8], first: int, end: int, tolerance: float) -> tuple[int, int]:
    """The lines to keep, of those that an earlier pass has kept."""
    most = int(MAX_CUT * len(lines))
    at_start = first + _num_uniform(lines[first : first + most + 1], tolerance)
    at_end = len(lines) - end + _num_uniform(lines[max(0, end - most - 1) : end][::-1], tolerance)
    share = min(1.0, most / max(1, at_start + at_end))
    return int(at_start * share), len(lines) - int(at_end * share)


def _num_uniform(lines: NDArray[np.uint8], tolerance: float) -> int:
    """How many lines, from the first, are uniform."""
    for number, line in enumerate(lines):
        difference = np.abs(line - np.median(line))
        if np.count_nonzero(difference > tolerance) > ODD_PIXELS * line.size:
            return number
    return len(lines)
