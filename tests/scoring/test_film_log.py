"""The log of films: which of them speak for a call, and when a watch says something."""

import numpy as np
import pytest

from salad.evaluation.calibration import Calibration
from salad.scoring.film_log import LOOK_EVERY, WINDOW, DriftWatch, FilmLog

CALIBRATION = Calibration.of(np.arange(50.0), {"brightness": np.linspace(100, 140, 50)})


def add(log, number, *, brightness=120.0, score=25.0):
    log.add(np.full(number, score), {"brightness": np.full(number, brightness)})


def test_a_call_stands_for_itself_once_it_has_enough_films():
    log = FilmLog()
    assert log.drift(CALIBRATION) is None
    for number in (30, 3, 2):  # batches of one call
        add(log, number)
    log.begin()
    add(log, 3, brightness=250.0)
    assert len(log) == 38
    add(log, 4, brightness=250.0)
    assert len(log) == 7
    assert log.drift(CALIBRATION).drifted == ("brightness",)


def test_calls_of_single_films_are_taken_together():
    log = FilmLog()
    for number in range(WINDOW + 50):
        log.begin()
        add(log, 1, score=number)
    scores, films = log.read()
    assert scores.tolist() == list(range(49, WINDOW + 50))
    assert len(films["brightness"]) == len(scores)


def test_measurements_that_a_film_lacks_are_left_out():
    log = FilmLog()
    log.add(np.zeros(3), {"aspect": np.array([1.0, np.nan, 1.5])})
    scores, films = log.read()
    assert len(scores) == 3 and {name: values.tolist() for name, values in films.items()} == {"aspect": [1.0, 1.5]}


def test_a_watch_says_once_that_films_have_changed_and_that_they_are_as_before():
    said, log = [], FilmLog()
    lookout = DriftWatch(log, CALIBRATION, said.append)

    def films(number, brightness):
        for _ in range(number):
            add(log, 1, brightness=brightness)
            lookout.look()

    films(3 * LOOK_EVERY, 120.0)
    assert said == [] and len(log) == 3 * LOOK_EVERY
    films(2 * WINDOW, 200.0)
    assert len(log) == WINDOW
    (line,) = said
    assert "the mean grey level is" in line and "of 255 higher" in line
    films(2 * WINDOW, 120.0)
    assert len(said) == 2 and said[1].startswith(f"drift of the last {WINDOW} films: none: ")


def test_a_watch_without_a_calibration_is_silent():
    said, log = [], FilmLog()
    lookout = DriftWatch(log, None, said.append)
    for _ in range(2 * LOOK_EVERY):
        add(log, 1)
        lookout.look()
    assert said == []
    assert log.drift(None).brief == pytest.approx("unknown")
