import numpy as np
import pytest

from salad.images.grey_levels import measure_grey_levels


def test_they_are_what_their_names_say():
    grey = np.random.default_rng(0).integers(0, 256, (3, 9, 9), dtype=np.uint8)
    found = measure_grey_levels(grey)
    for i, one in enumerate(grey.astype(float)):
        edges = [
            one[row - 1, column] + one[row + 1, column] + one[row, column - 1] + one[row, column + 1] - 4 * value
            for (row, column), value in np.ndenumerate(one)
            if 0 < row < 8 and 0 < column < 8
        ]
        assert [value[i] for value in found] == pytest.approx([one.mean(), one.std(), np.std(edges)])


def test_sharpness_grows_with_edges_and_not_with_brightness():
    soft = np.tile(np.arange(16, dtype=np.uint8) * 8, (16, 1))
    flat, stripes = np.full((16, 16), 200, np.uint8), np.tile(np.arange(16, dtype=np.uint8) % 2 * 50, (16, 1))
    assert measure_grey_levels(np.stack([soft, flat, stripes])).sharpness.tolist() == [0, 0, pytest.approx(100)]


def test_two_pixels_a_side_have_none():
    assert measure_grey_levels(np.zeros((2, 2, 2), np.uint8)).sharpness.tolist() == [0, 0]
