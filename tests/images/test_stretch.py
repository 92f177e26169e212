"""Deep pixels fill the range from black to white, whatever a few odd ones hold."""

import numpy as np
import pytest
from dicom_files import dataset, written
from PIL import Image

from salad.errors import InputError
from salad.images.decoder import Decoder
from salad.images.dicom import read_dicom
from salad.images.in_memory import read_source
from salad.images.read import read_whole
from salad.images.stretch import MAX_COUNTED, find_range, stretch

SIDE = 96
Y, X = np.mgrid[:SIDE, :SIDE] / SIDE
NOISE = np.random.default_rng(0).normal(0, 0.01, (SIDE, SIDE))
SHARES = np.clip(0.1 + 0.35 * X + 0.35 * Y + 0.15 * ((X - 0.3) ** 2 + (Y - 0.4) ** 2 < 0.04) + NOISE, 0, 1)
FILM = np.rint(500 + 3000 * SHARES)  # 12-bit data
EXPECTED = stretch(FILM.astype(np.uint16))
TYPES = [np.uint16, np.int16, np.int32, np.uint32, np.int64, np.float32, np.float64]


def largest(dtype):
    return (np.iinfo if np.dtype(dtype).kind in "iu" else np.finfo)(dtype).max


def odd_pixels(dtype):
    """Places of odd pixels, and the values that stand there."""
    most = min(largest(dtype), 60000)
    everywhere = np.s_[:1, :1], np.s_[5:6, 5:8], np.s_[:, 40:42], np.s_[44:52, 30:60]  # one, some, dead lines, a marker
    values = [0, 4095, most, largest(dtype)]
    values += [-1024, -9999, -largest(dtype)] if np.dtype(dtype).kind != "u" else []
    for place in everywhere:
        yield from ((place, value) for value in values)
    lossy = np.random.default_rng(1).integers(most - 2000, most, (8, 30))
    yield np.s_[44:52, 30:60], lossy
    for value in (0, *values[4:]):
        yield np.s_[60:], value  # a third of the pixels: a shutter, "no data"


@pytest.mark.parametrize("dtype", TYPES)
def test_odd_pixels_change_no_other(dtype):
    whole = FILM.astype(dtype)
    assert np.array_equal(stretch(whole), EXPECTED)
    for place, value in odd_pixels(dtype):
        odd = whole.copy()
        odd[place] = value
        others = np.ones(whole.shape, bool)
        others[place] = False
        expected = stretch(whole[:60]) if place == np.s_[60:] else EXPECTED[others]
        difference = stretch(odd)[others].astype(int) - expected.reshape(-1)
        assert np.abs(difference).max() <= 4, (place, value)


@pytest.mark.parametrize("odd", [None, (5, 5, 65535), (5, 5, 0), (np.s_[:], 7, 65535)])
def test_files_arrays_and_dicom_give_the_same_film(tmp_path, odd):
    pixels = FILM.astype(np.uint16)
    if odd:
        pixels[odd[0], odd[1]] = odd[2]
    found = [np.asarray(read_dicom(written(dataset(pixels)), max_pixels=10**6))]
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(pixels).save(tmp_path / f"film.{suffix}")
        found.append(np.asarray(read_whole(tmp_path / f"film.{suffix}")))
    Image.fromarray(pixels.astype(np.float32)).save(tmp_path / "float.tif")
    found.append(np.asarray(read_whole(tmp_path / "float.tif")))
    found.append(read_source(pixels, Decoder(isize=SIDE, resize="squash")))
    assert all(np.array_equal(one, found[0]) for one in found)
    assert np.abs(np.delete(found[0], 7, 1).astype(int) - np.delete(EXPECTED, 7, 1))[6:].max() <= 4


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([[7, 7], [7, 7]], [[0, 0], [0, 0]]),
        ([[0, 1], [1, 0]], [[0, 255], [255, 0]]),
        ([[0.0, 0.25], [0.5, 1.0]], [[0, 64], [128, 255]]),
        ([[-3, 0], [1, 2]], [[0, 153], [204, 255]]),
        ([[5]], [[0]]),
        ([[-1.7e308, 1.7e308]], [[0, 255]]),
    ],
)
def test_few_pixels_fill_their_range(pixels, expected):
    assert stretch(np.array(pixels)).tolist() == expected


def test_few_values_are_kept_apart():
    levels = np.repeat(np.arange(20), 50)
    assert np.array_equal(stretch(levels), np.rint(levels * 255 / 19))
    uneven = np.repeat([0, 1, 2, 3, 1000], 50)
    assert sorted({*stretch(uneven).tolist()}) == [0, 1, 255]
    assert np.array_equal(stretch(np.r_[[7] * 1000, 9]), np.r_[[0] * 1000, 255])


def test_films_of_many_pixels_are_counted_by_a_sample():
    wide = np.tile(FILM.astype(np.float32), (1, MAX_COUNTED // FILM.size * 3))
    wide[3, 3] = 1e30
    found = stretch(wide[:, : wide.shape[1] // 8 * 8])
    assert np.abs(found[:, SIDE : 2 * SIDE].astype(int) - EXPECTED).max() <= 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(value):
    with pytest.raises(InputError, match="NaN or infinite"):
        stretch(np.array([[1.0, value]]))


def test_range_counts_each_value():
    assert find_range(np.array([1.0, 2.0, 3.0]), np.array([1, 1000, 1])) == (1.0, 3.0)
    assert find_range(np.arange(5.0), np.array([1, 500, 500, 500, 1])) == (1.0, 3.0)
