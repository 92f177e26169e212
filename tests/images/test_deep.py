"""Colours and alpha of 16 bits keep their full depth, or are refused."""

import numpy as np
import pytest
from PIL import Image
from tiff_files import chunk, png, tiff

from salad.errors import InputError
from salad.images.deep import deep_to_grey, is_opaque
from salad.images.read import read_whole
from salad.images.stretch import stretch

RAMP = np.rint(np.linspace(500, 3500, 32 * 40)).astype(np.uint16).reshape(32, 40)
OPAQUE = np.full_like(RAMP, 65535)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)
GREY_OF_COLOUR = np.rint(COLOUR @ [0.299, 0.587, 0.114]).astype(np.uint16)
HALF = np.where(np.arange(32)[:, None] < 16, np.uint16(0), OPAQUE)


def ppm(pixels, most):
    return b"P6 %d %d %d\n" % (*pixels.shape[1::-1], most) + pixels.astype(">u2").tobytes()


CHANNELS = {
    "grey and alpha": (RAMP, OPAQUE),
    "RGB": (RAMP, RAMP, RAMP),
    "RGBA": (RAMP, RAMP, RAMP, OPAQUE),
}
FILES = {
    **{f"PNG {name}": png(np.dstack(channels)) for name, channels in CHANNELS.items()},
    **{
        f"TIFF {name} {order}{' deflate' * deflate}": tiff(np.dstack(CHANNELS[name]), order=order, deflate=deflate)
        for name in ("RGB", "RGBA")
        for order in "<>"
        for deflate in (False, True)
    },
    "TIFF RGBX": tiff(np.dstack([RAMP] * 4), t338=[0]),
    "PPM": ppm(np.dstack([RAMP] * 3), 65535),
    "PPM 12 bit": ppm(np.dstack([RAMP] * 3), 4095),
}


def read(folder, content):
    (folder / "film").write_bytes(content)
    return np.asarray(read_whole(folder / "film"))


@pytest.mark.parametrize("name", FILES)
def test_grey_with_more_channels_is_grey(tmp_path, name):
    assert np.array_equal(read(tmp_path, FILES[name]), stretch(RAMP))


@pytest.mark.parametrize(
    "content", [png(COLOUR), tiff(COLOUR), tiff(COLOUR, order=">", deflate=True), ppm(COLOUR, 4095)]
)
def test_colours_are_weighted_at_full_depth(tmp_path, content):
    found = read(tmp_path, content)
    assert np.array_equal(found, stretch(GREY_OF_COLOUR))
    assert len(np.unique(found)) > 200


@pytest.mark.parametrize("channels", [(RAMP, HALF), (RAMP, RAMP, RAMP, HALF)])
def test_transparent_pixels_are_black(tmp_path, channels):
    found = read(tmp_path, png(np.dstack(channels)))
    assert (found[:16] == 0).all()
    assert np.array_equal(found[16:], stretch(RAMP[16:]))


def test_pixels_of_the_transparent_colour_are_black(tmp_path):
    odd = RAMP.copy()
    odd[3:9] = 60000
    value = (60000).to_bytes(2)
    for content in (png(odd, chunk(b"tRNS", value)), png(np.dstack([odd] * 3), chunk(b"tRNS", value * 3))):
        found = read(tmp_path, content)
        assert (found[3:9] == 0).all()
        assert found[-1, -1] == 255 and found[20].mean() > 100


def test_orientation_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = png(np.rot90(np.dstack([RAMP] * 3)), chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(read(tmp_path, turned), stretch(RAMP))


@pytest.mark.parametrize(
    "content",
    [
        tiff(np.dstack([RAMP] * 4), t262=5),  # CMYK
        tiff(np.dstack([RAMP] * 4), t338=[1]),  # premultiplied
        tiff(np.dstack([RAMP] * 3), t284=2),  # planes
        tiff(np.dstack([RAMP] * 3), t284=2, deflate=True),
        tiff(np.dstack([RAMP, OPAQUE])),
        tiff(np.dstack([RAMP] * 3).astype(np.float32)),
        b"P3 2 1 4095\n" + b"7 " * 6,
    ],
)
def test_what_would_lose_depth_is_refused_with_a_way_out(tmp_path, content):
    with pytest.raises(InputError, match="save it as (8 or )?16-bit grey"):
        read(tmp_path, content)


def test_cut_off_files_are_refused(tmp_path):
    for name in ("PNG RGB", "TIFF RGB <", "PPM", "PNG grey and alpha"):
        with pytest.raises(InputError):
            read(tmp_path, FILES[name][: len(FILES[name]) // 2])


def test_an_alpha_is_opaque_at_the_largest_value_only():
    assert is_opaque(OPAQUE) and is_opaque(np.ones((2, 2))) and is_opaque(np.ones((2, 2), bool))
    assert not is_opaque(OPAQUE - 1) and not is_opaque(np.zeros((2, 2)))


def test_colours_of_other_types_are_refused():
    assert np.array_equal(deep_to_grey(np.dstack([RAMP * 2.0] * 3)), stretch(RAMP))
    with pytest.raises(InputError, match="a colour image of float64"):
        deep_to_grey(COLOUR / 2)
