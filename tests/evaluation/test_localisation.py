"""Pixel AUC and the pointing game against their definitions."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from salad.evaluation.localisation import NUM_BINS, NUM_RESAMPLES, Marks, Mean
from salad.samples import Sample


def film(number: int = 0, **facts) -> Sample:
    return Sample(Path(f"{number}.png"), f"{number}.png", 1, **facts)


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask, and a map that is larger inside it."""
    rng = np.random.default_rng(number)
    mask = rng.random((16, 16)) < 0.2
    return mask, (rng.normal(size=(16, 16)) + mask + number).astype(np.float32)


def test_pixel_auc_and_pointing_game_against_naive_twins():
    masks, maps = zip(*map(drawn, range(20)), strict=True)
    marks = [Marks(), Marks()]
    for i, (mask, heat) in enumerate(zip(masks, maps, strict=True)):
        marks[i % 2].add(film(i), mask, {"error": heat})
    marks[0].merge(marks[1])
    found = marks[0].result(seed=0)
    assert found.maps.keys() == {"error"} and found.groups == {} and found.num_images == 20
    score = found.maps["error"]
    areas = [roc_auc_score(mask.ravel(), heat.ravel()) for mask, heat in zip(masks, maps, strict=True)]
    assert score.pixel_auc.value == pytest.approx(np.mean(areas), abs=1e-3)
    pooled = roc_auc_score(np.stack(masks).ravel(), np.stack(maps).ravel())
    assert score.pooled == pytest.approx(pooled, abs=1e-3) and abs(score.pooled - score.pixel_auc.value) > 0.05
    hits = [mask.ravel()[heat.argmax()] for mask, heat in zip(masks, maps, strict=True)]
    assert score.pointing.value == pytest.approx(np.mean(hits)) and score.pointing.of == 20
    assert found.chance == pytest.approx(np.mean(masks))


@given(st.lists(st.sampled_from([-math.inf, -2.0, -1e-9, 0.0, -0.0, 1e-9, 0.5, 3.0, 1e30]), min_size=2, max_size=30))
def test_order_and_ties_survive_the_bins(values):
    heat = np.array(values, np.float32)[None]
    mask = np.arange(heat.size)[None] % 2 == 0
    marks = Marks()
    marks.add(film(), mask, {"error": heat})
    assert NUM_BINS < 2**20
    order = np.searchsorted(np.unique(values), values)
    found = marks.result(seed=0).maps["error"]
    assert found.pixel_auc.value == found.pooled == pytest.approx(roc_auc_score(mask[0], order))


def test_the_interval_is_that_of_drawing_images_with_replacement():
    values = np.random.default_rng(0).random(400)
    found = Mean.measure(np.append(values, np.nan), seed=3)
    assert found.value == pytest.approx(values.mean()) and found.of == 400
    reach = 1.96 * values.std() / 20  # of the normal distribution, for so many images
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=reach / 5)
    assert found == Mean.measure(values, seed=3) != Mean.measure(values, seed=4)
    assert Mean.measure(np.array([np.nan]), seed=0) is None and NUM_RESAMPLES == 1000


def test_findings_and_views_apart():
    hit, miss = np.eye(4, dtype=np.float32), 1 - np.eye(4, dtype=np.float32)
    marks = Marks()
    for number, (view, findings, heat) in enumerate(
        [("PA", ("mass", "edema"), hit), ("AP", ("mass",), miss), ("AP", (), hit), (None, ("edema", "edema"), hit)]
    ):
        marks.add(film(number, view=view, findings=findings), np.eye(4, dtype=bool), {"score": heat})
    found = marks.result(seed=0)
    rates = {name: (group.maps["score"].pointing.value, group.num_images) for name, group in found.of_groups()}
    assert rates == {"finding edema": (1, 2), "finding mass": (0.5, 2), "view AP": (0.5, 2), "view PA": (1, 1)}
    content = found.as_json()
    assert content["score_map"]["pointing_game"]["value"] == 0.75 and content["pointing_game_by_chance"] == 0.25
    assert content["by_view"]["AP"]["score_map"]["pixel_auc"]["value"] == 0.5
    assert [name for name, _ in found.rows()][:3] == [
        "pixel AUC, score map",
        "  pointing game",
        "  pointing game, finding edema",
    ]


def test_an_image_that_is_marked_all_over_has_no_pixel_auc():
    marks = Marks()
    marks.add(film(), np.ones((2, 2), bool), {"score": np.eye(2, dtype=np.float32)})
    found = marks.result(seed=0)
    assert found.maps["score"].pixel_auc is None and found.maps["score"].pooled is None
    assert found.rows()[0] == ("pixel AUC, score map", "undefined; 1 marked images")


def test_boxes_of_images_of_another_size(caplog):
    marks = Marks()
    for _ in range(9):
        marks.add(film(), np.eye(4, dtype=bool), {"error": np.eye(4, dtype=np.float32)})
    assert marks.result(seed=0).maps["error"].pointing.value == 1
    marks.add(film(), None, {"error": np.eye(4, dtype=np.float32)})
    assert marks.result(seed=0) is None
    assert "the boxes of 1 of 10 images lie outside them: were the images resized?" in caplog.text
    assert Marks().result(seed=0) is None
