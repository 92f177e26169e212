"""Read images that are rows of an array in an .npz file."""

from __future__ import annotations

import functools
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salad.errors import InputError, printable, refuse_shortage
from salad.images.read import GreyImage, to_grey, to_square
from salad.images.stamp import Stamp, read_stamp
from salad.samples import Sample

MAX_ARRAY_BYTES = 16 * 2**30
ARRAYS_KEPT = 3  # train, val and test
FORMS = "(N, H, W) or (N, H, W, 3) of uint8"

_lock = threading.Lock()  # while one thread loads an array, others wait and do not load it again


class Header(NamedTuple):
    """Shape and type of an array, known before it is loaded."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_headers(path: Path) -> dict[str, Header]:
    """Read the shapes and types of the arrays in a file, by array name.

    Raises:
        InputError: the file is damaged or not an .npz file.
    """
    headers = {}
    with _refusal(path), zipfile.ZipFile(path) as file:
        for member in file.namelist():
            if member.endswith(".npy"):
                with file.open(member) as array:
                    major, _ = np.lib.format.read_magic(array)
                    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(array)
                headers[member.removesuffix(".npy")] = Header(shape, dtype)
    return headers


def check_images(path: Path, array: str, header: Header) -> None:
    """Check, before an array is loaded, that it holds images of a readable form and size.

    Args:
        path: .npz file.
        array: name of the array.
        header: shape and type of the array.

    Raises:
        InputError: the shape, type or size is not supported.
    """
    where, shape = f"{printable(path)}: {array}", header.shape
    if len(shape) == 4 and shape[3] != 3 and shape[1:] == shape[1:2] * 3:
        raise InputError(f"{where} holds volumes {shape[1:]}: three-dimensional sets are not read")
    if header.dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)) or 0 in shape[1:]:
        raise InputError(f"{where} is {shape} of {header.dtype}, but must be {FORMS}")
    if np.prod(shape, dtype=object) > MAX_ARRAY_BYTES:
        raise InputError(f"{where} takes more than {MAX_ARRAY_BYTES:,} bytes")


def load_labels(path: Path, array: str) -> NDArray[np.int64]:
    """Load labels, one row for each image, (N, K).

    Raises:
        InputError: the labels cannot be read, or are not whole numbers.
    """
    with _refusal(path), np.load(path, allow_pickle=False) as file:
        labels = file[array]
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "iub":
        raise InputError(
            f"{printable(path)}: {array} is {labels.shape} of {labels.dtype}, but must be whole numbers, (N, K)"
        )
    rows: NDArray[np.int64] = labels.reshape(len(labels), *labels.shape[1:] or (1,)).astype(np.int64)
    return rows


def read_row(sample: Sample, *, isize: int, resize: str, trim: bool = False) -> GreyImage:
    """Read a sample that is a row of an array as a square grey image, (S, S); see `read_image`.

    Raises:
        InputError: the array cannot be read.
    """
    return np.asarray(to_square(to_grey(Image.fromarray(stored_row(sample))), isize, resize, trim=trim))


def stored_row(sample: Sample) -> NDArray[np.uint8]:
    """Read the stored row of a sample, (H, W) or (H, W, 3).

    The first call loads the whole array, which stays in memory until `forget`.

    Raises:
        InputError: the array cannot be read.
    """
    assert sample.array is not None and sample.row is not None
    with _refusal(sample.path), _lock:
        row: NDArray[np.uint8] = _load(sample.path, sample.array, read_stamp(sample.path))[sample.row]
    return row


def row_shape(sample: Sample) -> tuple[int, ...]:
    """Read the shape of a stored row, without loading its array.

    Raises:
        InputError: the array cannot be read.
    """
    assert sample.array is not None
    with _refusal(sample.path), _lock:
        return _shapes(sample.path, read_stamp(sample.path))[sample.array][1:]


@functools.lru_cache(maxsize=1)
def _shapes(path: Path, stamp: Stamp) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the arrays in a file; its stamp makes the cache notice a changed file."""
    return {name: header.shape for name, header in read_headers(path).items()}


def forget() -> None:
    """Free the arrays in memory."""
    _load.cache_clear()


@functools.lru_cache(maxsize=ARRAYS_KEPT)
def _load(path: Path, array: str, stamp: Stamp) -> NDArray[np.uint8]:
    """Load an array of images; the stamp of its file makes the cache notice a changed file."""
    with np.load(path, allow_pickle=False) as file:
        images: NDArray[np.uint8] = file[array]
    check_images(path, array, Header(images.shape, images.dtype))
    return images


@contextmanager
def _refusal(path: Path) -> Iterator[None]:
    """Turn any exception that a damaged file raises into an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        refuse_shortage(error, path)
        reason = printable(getattr(error, "strerror", None) or error)[:200] or type(error).__name__
        raise InputError(f"{printable(path)}: no .npz file of arrays, or damaged ({reason})") from None
