"""Cut off black borders, and frames that are burnt into a film."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_CUT = 0.4  # largest share of the height and of the width to cut, both ends together
TOLERANCE = 0.04  # largest distance of a pixel from the median of a uniform line, as a share of the image's range
ODD_PIXELS = 0.03  # share of a uniform line's pixels that may differ, such as annotations and dust


def trim_borders(grey: Image.Image) -> Image.Image:
    """Crop an image to `find_frame`."""
    return grey.crop(find_frame(grey))


def find_frame(grey: Image.Image) -> tuple[int, int, int, int]:
    """Find the rectangle that remains without the uniform rows and columns at each edge.

    A line of any grey level is uniform if nearly all of its pixels are alike. If more than `MAX_CUT` would be cut
    off, the cuts at both ends are reduced in proportion.

    Args:
        grey: mode L.

    Returns:
        Left, top, right and bottom, in pixels.
    """
    pixels = np.asarray(grey)
    tolerance = TOLERANCE * (float(pixels.max()) - float(pixels.min()))
    left, top, right, bottom = 0, 0, grey.width, grey.height
    for _ in range(2):  # rows that cross a frame of another colour are uniform only after the columns are cut
        top, bottom = _cut(pixels[:, left:right], top, bottom, tolerance)
        left, right = _cut(pixels[top:bottom].T, left, right, tolerance)
    return left, top, right, bottom


def _cut(lines: NDArray[np.uint8], first: int, end: int, tolerance: float) -> tuple[int, int]:
    """Find the first line to keep and the end, from those of an earlier pass."""
    most = int(MAX_CUT * len(lines))
    at_start = first + _num_uniform(lines[first : first + most + 1], tolerance)
    at_end = len(lines) - end + _num_uniform(lines[max(0, end - most - 1) : end][::-1], tolerance)
    share = min(1.0, most / max(1, at_start + at_end))
    return int(at_start * share), len(lines) - int(at_end * share)


def _num_uniform(lines: NDArray[np.uint8], tolerance: float) -> int:
    """Count the uniform lines before the first other one."""
    for number, line in enumerate(lines):
        difference = np.abs(line - np.median(line))
        if np.count_nonzero(difference > tolerance) > ODD_PIXELS * line.size:
            return number
    return len(lines)
