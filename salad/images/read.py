"""Read a radiograph file of any format to one grey array; damaged or incomplete images are refused."""

import errno
import stat
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from salad.errors import InputError, printable, refuse_shortage
from salad.images.dicom import DICOM_SUFFIXES, HEAD_BYTES, is_dicom, read_dicom
from salad.images.trim import trim_borders

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
IMAGE_SUFFIXES = PICTURE_SUFFIXES | DICOM_SUFFIXES
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # detected by content; EPS, which runs a program, never is
MAX_PIXELS = 8192 * 8192
MAX_FILE_BYTES = 512 * 2**20
SLOW_CODECS = {"bmp_rle", "ppm", "ppm_plain"}  # written in Python by Pillow: minutes for the largest image
MAX_SLOW_PIXELS = 1024 * 1024
SHRINK_TO = 2  # smallest decoded size of a JPEG, as a multiple of isize: the resizing must still smooth
STRETCH_CHUNK = 2**20  # pixels to hold in double precision at a time

GreyImage = NDArray[np.uint8]


def read_image(path: Path, *, isize: int, resize: str, trim: bool = False) -> GreyImage:
    """Decode a file to a square grey image.

    The format is detected by content, not by suffix. Grey, RGB, RGBA, palette and CMYK files of the same picture
    give the same image. Deeper grey files (16 bit, 32 bit, float) are stretched from their own range to 8 bits, and
    DICOM files are windowed. EXIF rotation is applied. Of an animation (PNG, WebP), the first frame is read.

    Args:
        path: a file with one of `IMAGE_SUFFIXES`.
        isize: S, in pixels.
        resize: ``squash`` (stretch to the square), ``pad`` (fit the longer side, black borders) or ``crop`` (fit the
            shorter side, keep the middle).
        trim: whether to cut off uniform borders first.

    Returns:
        (S, S), uint8.

    Raises:
        InputError: the file cannot be read as one complete image of at most `MAX_PIXELS`.
    """
    grey = _read(path, isize)
    return np.asarray(to_square(grey, isize, resize, trim=trim))


def read_whole(path: Path) -> Image.Image:
    """Decode a file to a grey image of its full size, in mode L; see `read_image`."""
    return _read(path, MAX_PIXELS)


def _read(path: Path, isize: int) -> Image.Image:
    """Decode a file to a grey image in mode L, whose sides may be reduced to no less than `SHRINK_TO` * isize."""
    # for all threads, permanently: Pillow's warnings are either harmless or refused below
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        _check_file(path)
        # opened here, so that Pillow does not memory-map it: truncation by another program would kill the process
        with path.open("rb") as file:
            return _decode(file, path.suffix, isize)
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}") from None
    except UnidentifiedImageError:
        reason = f"not an image, or its beginning is damaged ({', '.join(FORMATS)}, DICOM can be read)"
        raise InputError(f"{printable(path)}: {reason}") from None
    except Exception as error:  # decoders raise any exception at a damaged file
        refuse_shortage(error, path)
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{printable(path)}: cannot be read ({error.strerror})") from None
        reason = printable(error) or type(error).__name__
        raise InputError(f"{printable(path)}: damaged, cut off or not readable ({reason})") from None


def _decode(file: BinaryIO, suffix: str, isize: int) -> Image.Image:
    """Decode an open file to a grey image in mode L."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if is_dicom(head, suffix):
        return read_dicom(file.read(), max_pixels=MAX_PIXELS)
    with Image.open(file, formats=FORMATS) as image:
        _check_image(image, file)
        _shrink_while_decoding(image, isize)
        ImageOps.exif_transpose(image, in_place=True)
        return to_grey(image)


def _check_file(path: Path) -> None:
    """Raise InputError for anything but a regular file of a valid size: others may block or never end."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError("a link to a file that is not there" if path.is_symlink() else "no such file") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError("a link that leads back to itself") from None
        raise
    if not stat.S_ISREG(status.st_mode):
        raise InputError("a folder, a pipe or a device, not a file")
    if status.st_size == 0:
        raise InputError("an empty file")
    if status.st_size > MAX_FILE_BYTES:
        raise InputError(f"a file of {status.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")


def _check_image(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Raise InputError, before decoding, if a file cannot give one complete image."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} (8192 x 8192) are decoded: shrink it")
    if image.format == "PPM" and image.mode == "I" and image.tile[0][0] == "ppm":
        # 16-bit grey with a largest value below 65535: `stretch` rescales it anyway, and raw is 100 times faster
        _, box, offset, _ = image.tile[0]
        image.tile = [ImageFile._Tile("raw", box, offset, "I;16B")]
    if width * height > MAX_SLOW_PIXELS and SLOW_CODECS.intersection(tile[0] for tile in image.tile):
        raise InputError(f"{width} x {height} pixels in a kind of {image.format} that takes minutes: save it as PNG")
    if image.format == "TIFF" and getattr(image, "is_animated", False):
        raise InputError("a TIFF of several pages: save each page as a file")
    # libjpeg fills missing pixels with grey; Pillow notices a file that is too short, but not one padded with zeros
    if image.format in ("JPEG", "MPO") and b"\xff\xd9" not in file.read():
        raise InputError("a JPEG without its end: cut off")


def _shrink_while_decoding(image: ImageFile.ImageFile, isize: int) -> None:
    """Let the JPEG decoder reduce the sides to a half, a quarter or an eighth, before the exact resizing."""
    if image.format in ("JPEG", "MPO"):
        image.draft("L", (SHRINK_TO * isize, SHRINK_TO * isize))


def to_grey(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit grey.

    Raises:
        InputError: the image has NaN or infinite pixels.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        grey = stretch(np.asarray(image))
        # of TIFFs with white as 0, Pillow inverts only those of 8 bits
        is_negative = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        return Image.fromarray(255 - grey if is_negative else grey)
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may have transparency, at which a direct "L" would warn
    return image.convert("L")


def stretch(values: NDArray[np.generic]) -> GreyImage:
    """Stretch the range of the values to 0..255, in chunks because a whole image in double precision takes much memory.

    Raises:
        InputError: a value is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise InputError("an image with NaN or infinite pixels")
    flat, scale = values.reshape(-1), 255 / max(high - low, 1e-12)
    grey = np.empty(flat.shape, np.uint8)
    for start in range(0, len(flat), STRETCH_CHUNK):
        chunk = slice(start, start + STRETCH_CHUNK)
        grey[chunk] = np.rint((flat[chunk].astype(np.float64) - low) * scale)
    return grey.reshape(values.shape)


def to_square(grey: Image.Image, isize: int, resize: str, *, trim: bool = False) -> Image.Image:
    """Resize a grey image of any size to a square; see `read_image`."""
    if trim:
        grey = trim_borders(grey)
    square, bilinear = (isize, isize), Image.Resampling.BILINEAR
    if resize == "pad" and isize * min(grey.size) >= max(grey.size):
        return ImageOps.pad(grey, square, bilinear)
    if resize == "pad":  # the shorter side would shrink to less than a pixel
        narrow = (isize, 1) if grey.width > grey.height else (1, isize)
        return ImageOps.pad(grey.resize(narrow, bilinear), square, bilinear)
    if resize == "crop":
        return ImageOps.fit(grey, square, bilinear)
    return grey.resize(square, bilinear)
