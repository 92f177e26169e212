import numpy as np
import pytest
from PIL import Image

from salad.images.decoder import Decoder
from salad.images.read import read_image
from salad.images.trim import trim_borders
from salad.samples import NORMAL, Sample


def film(height=100, width=120):
    """Structure everywhere: no line of it is uniform."""
    y, x = np.mgrid[:height, :width]
    return np.uint8(128 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7))


def framed(*, top=0, bottom=0, left=0, right=0, level=0, inner=None):
    return np.pad(film() if inner is None else inner, ((top, bottom), (left, right)), constant_values=level)


def trimmed(pixels):
    return np.asarray(trim_borders(Image.fromarray(pixels)))


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(
    "widths", [{"top": 9}, {"bottom": 9}, {"left": 30}, {"right": 30}, {"top": 5, "bottom": 7, "left": 20, "right": 3}]
)
def test_borders_go_and_the_film_stays(level, widths):
    assert np.array_equal(trimmed(framed(**widths, level=level)), film())


def test_film_without_a_border_stays_as_it_is():
    assert np.array_equal(trimmed(film()), film())


def test_frame_within_a_border():
    white = framed(top=3, bottom=3, left=3, right=3, level=255)
    assert np.array_equal(trimmed(framed(top=10, bottom=10, left=10, right=10, inner=white)), film())


def test_sides_of_other_colours():
    """A white bar at the left crosses the rows of the black border above."""
    above = framed(top=12)
    assert np.array_equal(trimmed(framed(left=15, level=255, inner=above)), film())


def test_noise_and_a_few_bright_marks_do_not_save_a_border():
    pixels = framed(top=20, left=20).astype(int)
    noise = np.random.default_rng(0).integers(-6, 7, pixels.shape)
    pixels[:20] += noise[:20]
    pixels[20:, :20] += noise[20:, :20]
    pixels[5:9, 60:63] = 255  # a letter
    assert np.array_equal(trimmed(np.uint8(pixels.clip(0, 255))), film())


def test_marks_over_a_tenth_of_the_lines_save_them():
    pixels = framed(top=20)
    pixels[5:9, 20:32] = 255
    assert trimmed(pixels).shape == (100 + 20 - 5, 120)


def test_tolerance_is_relative_to_the_range_of_the_image():
    faint = np.uint8(100 + film() // 32)  # 8 levels in all
    assert np.array_equal(trimmed(framed(top=9, left=9, level=100, inner=faint)), faint)
    assert np.array_equal(trimmed(faint), faint)


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_at_most_two_fifths_go(side):
    pixels = framed(**{side: 200})
    height, width = trimmed(pixels).shape
    expected = (180, 120) if side in ("top", "bottom") else (100, 192)
    assert (height, width) == expected


def test_both_ends_keep_their_share_of_what_may_go():
    pixels = framed(top=150, bottom=50)  # 200 of 300 rows are uniform, 120 may go: 90 above, 30 below
    assert np.array_equal(trimmed(pixels), pixels[90:-30])


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2), (3, 200)])
@pytest.mark.parametrize("level", [0, 200])
def test_something_always_stays(shape, level):
    height, width = trimmed(np.full(shape, level, np.uint8)).shape
    assert height >= 0.6 * shape[0] and width >= 0.6 * shape[1]


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_borders_go_before_the_resizing(tmp_path, resize):
    Image.fromarray(framed(top=9, left=40, right=20)).save(tmp_path / "framed.png")
    Image.fromarray(film()).save(tmp_path / "film.png")
    expected = read_image(tmp_path / "film.png", isize=32, resize=resize)
    assert np.array_equal(read_image(tmp_path / "framed.png", isize=32, resize=resize, trim=True), expected)
    assert not np.array_equal(read_image(tmp_path / "framed.png", isize=32, resize=resize), expected)
    sample = Sample(tmp_path / "framed.png", "framed.png", NORMAL)
    assert np.array_equal(Decoder(isize=32, resize=resize, trim=True).read(sample), expected)


def test_a_cache_of_trimmed_images_has_a_name_of_its_own():
    keys = {Decoder(isize=32, resize=resize, trim=trim).key for resize in ("pad", "crop") for trim in (False, True)}
    assert len(keys) == 4
    assert Decoder(isize=32, resize="pad").key == "32-pad"
