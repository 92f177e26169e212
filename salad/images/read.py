"""Read a radiograph file of any format to one grey array; damaged or incomplete images are refused."""

import errno
import io
import stat
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT, TiffImageFile

from salad.errors import InputError, printable, refuse_shortage
from salad.images.deep import Deep, deep_to_grey, read_deep
from salad.images.dicom import DICOM_SUFFIXES, HEAD_BYTES, is_dicom, read_dicom
from salad.images.jpeg import check_jpeg
from salad.images.names import hint
from salad.images.open import FORMATS, open_picture
from salad.images.stretch import stretch
from salad.images.trim import trim_borders

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
IMAGE_SUFFIXES = PICTURE_SUFFIXES | DICOM_SUFFIXES
MAX_PIXELS = 8192 * 8192
MAX_FILE_BYTES = 512 * 2**20
SLOW_CODECS = {"bmp_rle", "ppm", "ppm_plain"}  # written in Python by Pillow: minutes for the largest image
MAX_SLOW_PIXELS = 1024 * 1024
UNSIGNED, SIGNED = 1, 2  # sample formats of a TIFF
SHRINK_TO = 2  # smallest decoded size of a JPEG, as a multiple of isize: the resizing must still smooth

GreyImage = NDArray[np.uint8]


class FileContent(NamedTuple):
    """Content of an image file that is on no disk.

    Attributes:
        content: all of its bytes.
        suffix: suffix of its name; only ``.dcm`` tells more than the content.
    """

    content: bytes
    suffix: str = ""


def read_image(path: Path | FileContent, *, isize: int, resize: str, trim: bool = False) -> GreyImage:
    """Decode a file to a square grey image.

    The format is detected by content, not by suffix. Grey, RGB, RGBA, palette and CMYK files of the same picture
    give the same image. Deeper grey files (16 bit, 32 bit, float) are stretched from their own range to 8 bits, and
    DICOM files are windowed. EXIF rotation is applied. Of an animation (PNG, WebP), the first frame is read.

    Args:
        path: a file with one of `IMAGE_SUFFIXES`, or its content.
        isize: S, in pixels.
        resize: ``squash`` (stretch to the square), ``pad`` (fit the longer side, black borders) or ``crop`` (fit the
            shorter side, keep the middle).
        trim: whether to cut off uniform borders first.

    Returns:
        (S, S), uint8.

    Raises:
        InputError: the file cannot be read as one complete image of at most `MAX_PIXELS`; the message begins with the
            path, if there is one.
    """
    grey = _read(path, isize)
    return np.asarray(to_square(grey, isize, resize, trim=trim))


def read_whole(path: Path) -> Image.Image:
    """Decode a file to a grey image of its full size, in mode L; see `read_image`."""
    return _read(path, MAX_PIXELS)


def read_marks(path: Path) -> Image.Image:
    """Decode a mask of full size, mode L: 255 where a pixel has any grey level or colour above 0, else 0."""
    return _read(path, MAX_PIXELS, as_marks=True)


def _read(path: Path | FileContent, isize: int, *, as_marks: bool = False) -> Image.Image:
    """Decode a file to a grey image in mode L, whose sides may be reduced to no less than `SHRINK_TO` * isize."""
    # for all threads, permanently: Pillow's warnings are either harmless or refused below
    warnings.filterwarnings("ignore", module=r"PIL\.")
    where = f"{printable(path)}: " if isinstance(path, Path) else ""
    try:
        with _open(path) as file:
            return _decode(file, path.suffix, isize, as_marks=as_marks)
    except InputError as error:
        raise InputError(f"{where}{error}") from None
    except UnidentifiedImageError:
        reason = f"not an image, or its beginning is damaged ({', '.join(FORMATS)}, DICOM can be read)"
        raise InputError(f"{where}{reason}") from None
    except Exception as error:  # decoders raise any exception at a damaged file
        refuse_shortage(error, path if where else "an image")
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{where}cannot be read ({error.strerror})") from None
        reason = printable(error) or type(error).__name__
        raise InputError(f"{where}damaged, cut off or not readable ({reason})") from None


def _open(path: Path | FileContent) -> BinaryIO:
    """Open a file, or its content, whose size is valid."""
    if isinstance(path, FileContent):
        _check_size(len(path.content))
        return io.BytesIO(path.content)
    _check_file(path)
    # opened here, so that Pillow does not memory-map it: truncation by another program would kill the process
    return path.open("rb")


def _decode(file: BinaryIO, suffix: str, isize: int, *, as_marks: bool) -> Image.Image:
    """Decode an open file to a grey image in mode L."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if is_dicom(head, suffix):
        grey = read_dicom(file.read(), max_pixels=MAX_PIXELS)
        return to_marks(grey) if as_marks else grey
    with open_picture(file) as image:
        _check_image(image, file)
        _shrink_while_decoding(image, isize)
        deep = read_deep(image, file)
        ImageOps.exif_transpose(image, in_place=True)
        if as_marks:
            return to_marks(image if deep is None else deep)
        if deep is not None:
            return Image.fromarray(deep_to_grey(deep, hidden=image.info.get("transparency")))
        return to_grey(image)


def _check_file(path: Path) -> None:
    """Raise InputError for anything but a regular file of a valid size: others may block or never end."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        is_link = path.is_symlink()
        raise InputError("a link to a file that is not there" if is_link else f"no such file{hint(path)}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError("a link that leads back to itself") from None
        raise
    if not stat.S_ISREG(status.st_mode):
        raise InputError("a folder, a pipe or a device, not a file")
    _check_size(status.st_size)


def _check_size(num_bytes: int) -> None:
    if num_bytes == 0:
        raise InputError("an empty file")
    if num_bytes > MAX_FILE_BYTES:
        raise InputError(f"a file of {num_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read")


def _check_image(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Raise InputError, before decoding, if a file cannot give one complete image."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} (8192 x 8192) are decoded: shrink it")
    if width * height > MAX_SLOW_PIXELS and SLOW_CODECS.intersection(tile[0] for tile in image.tile):
        raise InputError(f"{width} x {height} pixels in a kind of {image.format} that takes minutes: save it as PNG")
    if image.mode == "LAB":
        raise InputError(f"a {image.format} of LAB colours: save it as grey or RGB")
    if image.format in ("JPEG", "MPO"):
        position = file.tell()
        file.seek(0)
        check_jpeg(file.read())
        file.seek(position)


def _shrink_while_decoding(image: ImageFile.ImageFile, isize: int) -> None:
    """Let the JPEG decoder reduce the sides to a half, a quarter or an eighth, before the exact resizing."""
    if image.format in ("JPEG", "MPO"):
        image.draft("L", (SHRINK_TO * isize, SHRINK_TO * isize))


def to_grey(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit grey.

    Raises:
        InputError: the image has NaN or infinite pixels.
    """
    if image.mode == "F" or image.mode.startswith("I") or _sample_format(image) == SIGNED:
        grey = stretch(_values(image))
        # of TIFFs with white as 0, Pillow inverts only those of 8 bits
        is_negative = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        return Image.fromarray(255 - grey if is_negative else grey)
    if image.has_transparency_data and getattr(image, "format", None) != "BMP":  # BMP has a byte that may hold anything
        return _on_black(image).convert("L")
    if image.mode == "P":
        image = image.convert("RGB")
    return image.convert("L")


def to_marks(mask: Image.Image | Deep) -> Image.Image:
    """Find the pixels of a mask that are above 0, see `read_marks`; transparent ones are not."""
    if isinstance(mask, Image.Image):
        if mask.has_transparency_data and mask.mode[0] not in "FI":
            mask = _on_black(mask)
        mask = np.asarray(mask.convert("RGB") if mask.mode in ("P", "RGBA", "CMYK") else mask)
    elif mask.shape[2] == 4:
        mask = mask[..., :3] * (mask[..., 3:] > 0)
    marked = mask.reshape(*mask.shape[:2], -1).max(axis=2) > 0
    return Image.fromarray(marked.astype(np.uint8) * 255)


def _sample_format(image: Image.Image) -> int:
    """Read the number that a TIFF gives for whole numbers, signed ones or floats; 0 for other files."""
    return int(image.tag_v2.get(SAMPLEFORMAT, (1,))[0]) if isinstance(image, TiffImageFile) else 0


def _values(image: Image.Image) -> NDArray[np.generic]:
    """Collect the pixels of a deep grey image, with the sign that Pillow drops from TIFFs; transparent ones are 0."""
    values = np.asarray(image)
    if image.mode == "L":
        return values.view(np.int8)
    is_unsigned = image.mode == "I" and _sample_format(image) == UNSIGNED
    if isinstance(image, TiffImageFile) and is_unsigned and image.tag_v2[BITSPERSAMPLE] == (32,):
        return values.view(np.uint32)
    hidden = image.info.get("transparency")
    return values if hidden is None else np.where(values == hidden, 0, values)


def _on_black(image: Image.Image) -> Image.Image:
    """Lay an image with alpha on black, as a screen shows it, so that no hidden pixel is read."""
    image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    if image.getextrema()[-1] == (255, 255):
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)


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
