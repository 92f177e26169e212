"""The measurements of films: their signs and sizes, and the words for a difference."""

import numpy as np
import pytest
import torch

from salad.datasets.phantom import draw_radiograph
from salad.evaluation.films import MAX_KEPT, MEASUREMENTS, measure_framing, measure_levels, summarise_films
from salad.images.align import build_template, register, shrink, warp
from salad.images.grey_levels import measure_grey_levels


@pytest.fixture(scope="module")
def films():
    drawn = [draw_radiograph(np.random.default_rng(seed), size=96, abnormal=False) for seed in range(12)]
    return torch.from_numpy(np.stack(drawn))[:, None]


@pytest.mark.parametrize(
    ("change", "name", "sign"),
    [
        ((-0.15, 0, 0, 0), "chest_width", 1),  # a smaller part of the film fills the picture
        ((0, -0.15, 0, 0), "chest_height", 1),
        ((0, 0.15, 0, 0), "chest_height", -1),
        ((0, 0, -0.1, 0), "chest_right", 1),  # the window moves to the left, and so the chest to the right
        ((0, 0, 0, 0.1), "chest_down", -1),
    ],
)
def test_the_framing_tells_how_a_film_was_changed(films, change, name, sign):
    template = build_template(shrink(films))
    changed = warp(films.float(), torch.tensor([change]).expand(len(films), 4)).round().to(torch.uint8)

    before, after = (measure_framing(register(template, grey).numpy()) for grey in (films, changed))

    moved = {key: MEASUREMENTS[key].on_scale(after[key]) - MEASUREMENTS[key].on_scale(before[key]) for key in after}
    assert (sign * moved[name] > 0.02).all()
    assert max(moved, key=lambda key: abs(np.median(moved[key]))) == name


def test_films_without_registration_have_no_framing(films):
    assert measure_framing(None) == {}
    levels = measure_levels(measure_grey_levels(films[:, 0].numpy()))
    assert {key: len(values) for key, values in levels.items()} == dict.fromkeys(levels, len(films))
    assert {*levels, *measure_framing(np.zeros((1, 4)))} == {*MEASUREMENTS} - {"aspect"}


@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        ("chest_height", 1.0, 1.15, "the chest is 15 % taller"),
        ("chest_width", 1.0, 0.8, "the chest is 20 % narrower"),
        ("chest_down", 0.01, -0.05, "the chest stands 6 % of the side higher"),
        ("brightness", 100.0, 88.0, "the mean grey level is 12 of 255 lower"),
        ("sharpness", 10.0, 25.0, "the sharpness is 150 % higher"),
        ("aspect", 1.2, 0.9, "the film is, for its height, 25 % narrower"),
    ],
)
def test_a_difference_is_said_in_units_that_people_know(name, before, after, words):
    measurement = MEASUREMENTS[name]
    old, new = measurement.on_scale(np.array([before, after]))
    assert measurement.describe(new - old) == words


def test_uniform_films_can_be_compared():
    black = measure_levels(measure_grey_levels(np.zeros((2, 8, 8), np.uint8)))
    assert all(np.isfinite(MEASUREMENTS[name].on_scale(values)).all() for name, values in black.items())


def test_few_values_are_kept_as_they_are_and_many_as_quantiles():
    values = np.random.default_rng(0).normal(size=4001)
    kept = summarise_films({"brightness": values[:7], "contrast": values, "aspect": np.empty(0)})
    assert kept["brightness"].tolist() == sorted(values[:7])
    assert len(kept["contrast"]) == MAX_KEPT and "aspect" not in kept
    assert np.median(kept["contrast"]) == pytest.approx(np.median(values), abs=0.01)
    assert (kept["contrast"].min(), kept["contrast"].max()) == (values.min(), values.max())
