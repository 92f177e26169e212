"""Open a picture file with Pillow: the page that holds the image, without metadata that would stop the reading."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import PREFIXES, TiffImageFile

from salad.errors import InputError

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # detected by content; EPS, which runs a program, never is
MAX_PAGES = 64
NEW_SUBFILE_TYPE, SUBFILE_TYPE = 254, 255  # tags of a TIFF page
REDUCED, MASK = 1, 4  # bits of the first
OLD_REDUCED = 2  # value of the second
TIFF_STARTS = set(PREFIXES)
PNG_START = b"\x89PNG\r\n\x1a\n"
# Pillow refuses a PNG whose texts or colour profile are large or unpack to much. No profile is needed here, and of the
# texts only short ones, which may hold the orientation.
COLOUR_PROFILE, TEXTS = b"iCCP", {b"tEXt", b"zTXt", b"iTXt"}
MAX_TEXT_BYTES, MAX_TEXTS = 2**16, 100


@contextmanager
def open_picture(file: BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """Open a picture, without decoding it.

    Args:
        file: open file of one of `FORMATS`.

    Yields:
        The opened image. Of a TIFF of several pages it is the only one that is neither reduced nor a mask.

    Raises:
        InputError: a TIFF has several such pages.
        Exception: of any kind, if the file is no picture or damaged.
    """
    file.seek(0)
    with _opened(_without_metadata(file)) as image:
        if isinstance(image, TiffImageFile) and image.is_animated:
            image.seek(_only_page(image))
        if image.format == "PPM":
            _read_ppm_as_raw(image)
        yield image


def _opened(file: BinaryIO) -> ImageFile.ImageFile:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        if file.read(4) in TIFF_STARTS:
            raise InputError(
                "a TIFF of a kind that is not read, or damaged at its beginning: save it as 8 or 16-bit grey"
            ) from None
        raise


def _read_ppm_as_raw(image: ImageFile.ImageFile) -> None:
    """Let the values of a 16-bit PPM be read as they are.

    Pillow would scale them to the largest value that the file names, grey a hundred times slower and colours to 8 bits.

    Raises:
        InputError: the colours are written as text, of which Pillow keeps 8 bits.
    """
    ((codec, box, offset, args),) = image.tile
    if isinstance(args, tuple) and isinstance(args[-1], int) and args[-1] > 255 and image.mode != "F":
        if codec == "ppm":
            rawmode = "I;16B" if image.mode == "I" else f"{image.mode};16B"
            image.tile = [ImageFile._Tile("raw", box, offset, rawmode)]
        elif image.mode != "I":
            raise InputError("a plain-text PPM of 16-bit colours: save it as 16-bit grey")


def _only_page(image: TiffImageFile) -> int:
    """Find the only page of a TIFF that is neither reduced nor a mask.

    Raises:
        InputError: there are several such pages, or none.
    """
    if image.n_frames <= MAX_PAGES:
        pages = [page for page in range(image.n_frames) if _is_full(image, page)]
        if len(pages) == 1:
            return pages[0]
    raise InputError("a TIFF of several pages: save each page as a file")


def _is_full(image: TiffImageFile, page: int) -> bool:
    image.seek(page)
    is_other = int(image.tag_v2.get(NEW_SUBFILE_TYPE, 0)) & (REDUCED | MASK)
    return not is_other and image.tag_v2.get(SUBFILE_TYPE) != OLD_REDUCED


def _without_metadata(file: BinaryIO) -> BinaryIO:
    """Leave the colour profile and long texts of a PNG out; other files, and damaged ones, stay as they are."""
    if file.read(len(PNG_START)) != PNG_START:
        file.seek(0)
        return file
    content, kept, num_texts = memoryview(PNG_START + file.read()), [], 0
    position = start = len(PNG_START)
    while position + 12 <= len(content):
        kind, data = bytes(content[position + 4 : position + 8]), position + 8
        end = data + int.from_bytes(content[position : position + 4]) + 4
        num_texts += kind in TEXTS
        is_long = kind in TEXTS and (num_texts > MAX_TEXTS or _is_long(content[data : end - 4], kind))
        if kind == COLOUR_PROFILE or is_long:
            kept.append(content[start:position])
            start = end
        position = end
    kept.append(content[start:])
    return io.BytesIO(b"".join([PNG_START, *kept]) if len(kept) > 1 else content)


def _is_long(text: memoryview, kind: bytes) -> bool:
    """Detect a text of a PNG that is long, packed or unpacked."""
    if len(text) > MAX_TEXT_BYTES:
        return True
    keyword, _, rest = bytes(text).partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] != b"\1"):
        return False
    packed = rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]  # after language and translated keyword
    unpacking = zlib.decompressobj()
    try:
        return len(unpacking.decompress(packed, MAX_TEXT_BYTES + 1)) > MAX_TEXT_BYTES
    except zlib.error:
        return True
