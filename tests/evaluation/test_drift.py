"""Drift: said where films are of another kind, beyond chance; not where they are alike, few, or only sick."""

import json

import numpy as np
import pytest

from salad.evaluation.calibration import Calibration
from salad.evaluation.drift import LEAST_FILMS, WAY_OUT, find_drift
from salad.evaluation.films import MEASUREMENTS

USUAL = {  # centre and spread, about those of children's films
    "brightness": (120, 13),
    "contrast": (60, 5),
    "sharpness": (14, 1.7),
    "aspect": (1.3, 0.15),
    "chest_width": (1, 0.07),
    "chest_height": (1, 0.07),
    "chest_right": (0, 0.016),
    "chest_down": (0.02, 0.025),
}


def draw(rng, number, **shifts):
    """Films whose measurements are shifted by some standard deviations."""
    return {
        name: rng.normal(centre + shifts.get(name, 0) * spread, spread, number)
        for name, (centre, spread) in USUAL.items()
    }


def drift_of(number, *, calibrated=120, score=0.0, seed=0, are_normal=False, **shifts):
    rng = np.random.default_rng(seed)
    calibration = Calibration.of(rng.normal(size=calibrated), draw(rng, calibrated))
    films = draw(rng, number, **shifts)
    return find_drift(rng.normal(score, 1, number), films, calibration, are_normal=are_normal)


@pytest.mark.parametrize("name", MEASUREMENTS)
@pytest.mark.parametrize("sign", [1, -1])
def test_each_measurement_tells_films_of_another_kind(name, sign):
    drift = drift_of(100, **{name: 4 * sign})
    assert drift.drifted == (name,) and drift.is_found
    (line,) = drift.lines
    measurement = MEASUREMENTS[name]
    assert line.startswith(f"in these 100 films {measurement.subject} ") and line.endswith(WAY_OUT)
    assert f" {measurement.more if sign > 0 else measurement.less} than in the 120 normal films" in line
    assert drift.changes[name].in_sds == pytest.approx(4 * sign, abs=1.5)  # of logarithms, in part


def test_several_differences_are_one_line():
    (line,) = drift_of(100, chest_height=3, contrast=-5, chest_down=-4).lines
    assert "% lower, the chest is" in line and "% taller and the chest stands" in line


@pytest.mark.parametrize("calibrated", [20, 120])
@pytest.mark.parametrize("number", [LEAST_FILMS, 20, 200])
def test_films_of_the_same_kind_are_no_drift(number, calibrated):
    drifts = [drift_of(number, calibrated=calibrated, seed=seed) for seed in range(200)]
    assert sum(drift.is_found for drift in drifts) <= 6
    assert drifts[0].brief == "none"
    assert "brightness, contrast, sharpness, shape and framing" in drifts[0].lines[0]


def test_sick_films_of_the_same_kind_are_said_to_score_high_and_no_more():
    sick = {"contrast": -1.5, "sharpness": -2.2, "chest_height": 0.8}
    drift = drift_of(200, score=4, **sick)
    assert drift.drifted == () and drift.is_found
    (line,) = drift.lines
    assert line.endswith("many abnormal films, or films of another kind") and "score above the 99th" in line
    assert drift.share_above > 0.5 and drift.median_percentile > 99
    assert drift_of(200, score=4, are_normal=True).lines[0].endswith("calibrated on: films of another kind")


def test_a_few_sick_films_among_many_are_not_worth_a_word():
    rng = np.random.default_rng(0)
    calibration = Calibration.of(rng.normal(size=120), draw(rng, 120))
    scores = np.concatenate([rng.normal(size=92), np.full(8, 9.0)])
    drift = find_drift(scores, draw(rng, 100), calibration)
    assert 0.05 < drift.share_above < 0.15 and not drift.is_found


@pytest.mark.parametrize("calibrated", [5, 10, 20])
def test_scores_above_the_largest_of_few_calibration_films_are_chance(calibrated):
    found = sum(drift_of(100, calibrated=calibrated, seed=seed).has_high_share for seed in range(200))
    assert found <= 10


def test_four_films_are_too_few_to_tell():
    drift = drift_of(4, chest_height=9, score=9)
    assert drift.lines == ("too few films to tell: 4, and 5 are needed",)
    assert not drift.is_found and drift.changes == {}
    assert drift_of(50, calibrated=3, chest_height=9).brief == "too few films behind the calibration to tell"


def test_few_films_need_a_larger_difference():
    several, many = ([drift_of(n, chest_height=1.8, seed=seed).is_found for seed in range(50)] for n in (5, 200))
    assert np.mean(several) < 0.5 and np.mean(many) > 0.95


@pytest.mark.parametrize("calibration", [None, Calibration.of(np.arange(30.0))])
def test_an_old_calibration_tells_no_kind(calibration):
    rng = np.random.default_rng(0)
    drift = find_drift(np.full(20, 15.0), draw(rng, 20, chest_height=9), calibration)
    (line,) = drift.lines
    assert line.startswith("unknown: ") and "predict --calibrate" in line and not drift.is_found
    high = find_drift(np.full(20, 99.0), draw(rng, 20), calibration)
    assert [text.split(":")[0] for text in high.lines][:1] == ["unknown"]
    assert high.has_high_share == (calibration is not None) == (len(high.lines) == 2)


def test_equal_films_differ_only_by_what_is_worth_a_word():
    """Files that were all made square have no spread."""
    calibration = Calibration.of(np.arange(30.0), {"aspect": np.ones(30)})
    small, large = (
        find_drift(np.full(10, 15.0), {"aspect": np.full(10, aspect)}, calibration) for aspect in (1.04, 1.06)
    )
    assert (small.drifted, large.drifted) == ((), ("aspect",))
    assert "in shape" in small.lines[0]


def test_one_odd_film_does_not_hide_drift_nor_make_it():
    rng = np.random.default_rng(0)
    odd = draw(rng, 60)
    odd["chest_height"][0] = 9.0
    calibration = Calibration.of(rng.normal(size=60), odd)
    tall, usual = (find_drift(rng.normal(size=60), draw(rng, 60, chest_height=h), calibration) for h in (2.5, 0))
    assert tall.drifted == ("chest_height",) and usual.drifted == ()


def test_the_numbers_are_plain_json():
    numbers = json.loads(json.dumps(drift_of(50, chest_height=4).as_json(), allow_nan=False))
    assert numbers["is_found"] is True and numbers["num_calibrated"] == 120
    assert numbers["medians"]["chest_height"]["is_drift"] is True
    assert numbers["medians"]["chest_height"]["films"] == pytest.approx(1.28, abs=0.05)
    assert numbers["medians"]["chest_width"]["is_drift"] is False
