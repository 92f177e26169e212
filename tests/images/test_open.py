"""The page of a TIFF that is the film, and metadata that do not stop the reading."""

import os
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tiff_files import chunk, png, tiff

from salad.errors import InputError
from salad.images.headers import read_headers
from salad.images.read import read_whole
from salad.samples import Sample

FILM = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8) * 2
SMALL = FILM[::4, ::4] // 2


def read(folder, content, name="film"):
    (folder / name).write_bytes(content)
    return np.asarray(read_whole(folder / name))


@pytest.mark.parametrize(
    "pages",
    [
        [FILM, {"pixels": SMALL, 254: 1}],
        [{"pixels": SMALL, 254: 1}, FILM],
        [{"pixels": SMALL, 254: 1}, {"pixels": FILM, 254: 0}, {"pixels": FILM // 2, 254: 4}, {"pixels": SMALL, 254: 5}],
        [FILM, {"pixels": SMALL, 255: 2}],
        [{"pixels": FILM, 254: 2}, {"pixels": SMALL, 254: 3}],  # a page of a document, and its thumbnail
    ],
)
def test_page_that_is_neither_reduced_nor_a_mask(tmp_path, pages):
    assert np.array_equal(read(tmp_path, tiff(*pages)), FILM)
    (header,) = read_headers([Sample(tmp_path / "film", "film", 0)], num_threads=0)
    assert (header.width, header.height) == (50, 40)


def test_thumbnail_beside_deep_pages(tmp_path):
    deep = FILM.astype(np.uint16) * 200
    expected = read(tmp_path, tiff(deep))
    for pixels in (deep, np.dstack([deep] * 3)):
        assert np.array_equal(read(tmp_path, tiff({"pixels": SMALL, 254: 1}, pixels)), expected)


@pytest.mark.parametrize(
    "pages", [[FILM, FILM], [FILM, {"pixels": SMALL, 254: 1}, FILM], [{"pixels": SMALL, 254: 1}] * 2, [SMALL] * 70]
)
def test_several_pages_or_none_are_refused(tmp_path, pages):
    with pytest.raises(InputError, match="a TIFF of several pages: save each page as a file"):
        read(tmp_path, tiff(*pages))


LONG = zlib.compress(b"a" * 3_000_000)
NOISE = os.urandom(1_500_000)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"zTXt", b"c\0\0" + LONG)],
        [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG)],
        [chunk(b"iTXt", b"c\0\0\0\0\0" + b"a" * 3_000_000)],
        [chunk(b"tEXt", b"c\0" + b"a" * 3_000_000)],
        [chunk(b"iCCP", b"p\0\0" + zlib.compress(NOISE))],
        [chunk(b"zTXt", b"c\0\0" + zlib.compress(b"a" * 60_000))] * 2000,
        [chunk(b"zTXt", b"c\0\0broken")],
        [chunk(b"zzZz", NOISE)],
    ],
    ids=["zTXt", "XMP", "iTXt", "tEXt", "profile", "many", "broken", "private"],
)
@pytest.mark.parametrize("is_after", [False, True])
def test_metadata_of_any_size_are_passed_over(tmp_path, chunks, is_after):
    content = png(FILM, after=b"".join(chunks)) if is_after else png(FILM, *chunks)
    assert np.array_equal(read(tmp_path, content), FILM)
    (header,) = read_headers([Sample(tmp_path / "film", "film", 0)], num_threads=0)
    assert header.mode == "PNG L"


@pytest.mark.parametrize("suffix", ["jpg", "tif", "webp"])
def test_metadata_of_other_formats(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a" * 60_000, 1
    options = {
        "jpg": {"icc_profile": NOISE, "exif": exif},
        "tif": {"icc_profile": NOISE, "tiffinfo": {700: NOISE, 270: "a" * 1_000_000}},
        "webp": {"icc_profile": NOISE, "xmp": NOISE, "lossless": True},
    }
    Image.fromarray(FILM).save(tmp_path / f"film.{suffix}", **options[suffix])
    found = np.asarray(read_whole(tmp_path / f"film.{suffix}"))
    assert np.abs(found.astype(int) - FILM).max() <= 6


def test_short_texts_stay_for_the_orientation(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    Image.fromarray(np.rot90(FILM)).save(tmp_path / "film.png", pnginfo=text, icc_profile=b"p" * 100)
    assert np.array_equal(np.asarray(read_whole(tmp_path / "film.png")), FILM)


@pytest.mark.parametrize("length", [30, 60, 1_500, 2_090, 2_120])
def test_damaged_files_with_long_texts_are_refused(tmp_path, length):
    with pytest.raises(InputError):
        read(tmp_path, png(FILM, chunk(b"iCCP", b"p\0\0" + zlib.compress(NOISE[:2000])))[:length])


def test_a_tiff_that_is_not_read_is_called_one(tmp_path):
    for pixels in (np.zeros((4, 4, 2), np.uint16), np.zeros((4, 4), np.uint64)):
        with pytest.raises(InputError, match="a TIFF of a kind that is not read"):
            read(tmp_path, tiff(pixels))


def test_lab_colours_are_refused_with_the_way_out(tmp_path):
    Image.new("LAB", (8, 8)).save(tmp_path / "film.tif")
    with pytest.raises(InputError, match="a TIFF of LAB colours: save it as grey or RGB"):
        read_whole(tmp_path / "film.tif")
