"""Places of a map, in numbers and words."""

import numpy as np
import pytest

from salad.explaining.maps import ScoreMap
from salad.explaining.places import Place, describe, find_places


def map_of(**spots: float) -> ScoreMap:
    """A map of 20 pixels in a film of 24, with single values at pixels such as ``at_15_3``, row and column."""
    values = np.zeros((20, 20), np.float32)
    for name, value in spots.items():
        values[tuple(map(int, name.split("_")[1:]))] = value
    film = np.zeros((24, 24), np.uint8)
    return ScoreMap(
        pixels=film[2:-2, 2:-2], values=values, threshold=2, specificity=0.95, normals="validation", film=film
    )


def test_places_are_the_peaks_of_regions_above_the_threshold():
    found = map_of(at_15_3=6, at_15_4=5, at_3_16=3, at_9_9=1).places
    assert [place.value for place in found] == [6, 3] and [place.ratio for place in found] == [3, 1.5]
    assert (found[0].x, found[0].y) == pytest.approx((5.5 / 24, 17.5 / 24))  # in the film, two pixels larger all around
    assert [place.value for place in map_of(at_9_9=1).places] == [1] and map_of().places == ()
    assert len(find_places(np.full((20, 20), 9.0), threshold=1)) == 1
    many = find_places(np.diag(np.arange(20.0)), threshold=1)
    assert [place.value for place in many] == [19, 18, 17]  # neighbours across a corner are regions of their own


@pytest.mark.parametrize(
    ("x", "y", "view", "words"),
    [
        (0.2, 0.9, "PA", "lower third, right side of the patient"),
        (0.8, 0.1, "ap", "upper third, left side of the patient"),
        (0.2, 0.5, None, "middle third, left side of the picture"),
        (0.8, 0.5, "LATERAL", "middle third, right side of the picture"),
        (0.5, 0.999, "PA", "lower third, middle"),
    ],
)
def test_sides_are_those_of_the_patient_only_where_the_view_tells(x, y, view, words):
    assert Place(x, y, 1.0, 1.0).words(view) == words


def test_sentences():
    said = describe(map_of(at_15_3=6, at_3_16=3), ["a.png", "b.png", "c.png"], parts={"local": 7}, view="PA")
    assert said == (
        "Lower third, right side of the patient: 6.0 SD above normal, 3.0 times the value that 95 % of validation "
        "normals stay below; then upper third, left side of the patient (1.5); nearest normal images: a.png, b.png."
    )
    assert describe(map_of(at_9_9=1), [], parts={}).startswith(
        "Nothing stands out; the largest value, in the middle third, middle"
    )
    assert describe(map_of(), ["a"], parts={}).startswith("No place is less like normal images")
    assert describe(None, [], parts={"knn": 0.2}) == "This score has no map of places."
    fused = describe(map_of(), ["a.png"], parts={"local": 3.21, "backbone": -0.4})
    assert fused.endswith(
        "; parts of the score: local 3.2 SD and backbone -0.4 SD above normal; nearest normal images: a.png."
    )
