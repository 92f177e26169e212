from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad.evaluation.metrics import auc
from salad.evaluation.subgroups import auc_by_unit, by_unit, subgroups_by_kind
from salad.samples import Sample

images = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.integers(-9, 9)), min_size=1, max_size=20)


@given(images)
def test_a_study_has_the_mean_score_of_its_images_and_is_abnormal_with_one_of_them(found):
    labels, scores = by_unit(*zip(*found, strict=True))
    for name, label, score in zip(sorted({one[0] for one in found}), labels, scores, strict=True):
        own = [one for one in found if one[0] == name]
        assert label == max(one[1] for one in own)
        assert score == pytest.approx(sum(one[2] for one in own) / len(own))


def test_images_that_are_studies_of_their_own_have_the_same_auc():
    labels, scores = [0, 1, 0, 1, 1], [0.1, 0.5, 0.6, 0.7, 0.7]
    assert auc(*by_unit(list("abcde"), labels, scores)) == auc(labels, scores)


def sample(label, **facts):
    return Sample(Path("x.png"), "x.png", label, **facts)


def test_only_units_of_several_images_have_an_auc_of_their_own():
    assert auc_by_unit(["a", "b", None, None], [0, 1, 0, 1], [1, 2, 3, 4]) is None
    subgroup = auc_by_unit(["a", "a", "b", None, None], [0, 0, 1, 1, 0], [1, 3, 4, 1, 5])
    assert (subgroup.num_normal, subgroup.num_abnormal) == (2, 2)
    assert subgroup.auc == auc([0, 0, 1, 1], [2, 5, 4, 1])


def test_a_finding_is_told_from_all_normal_images():
    samples = [
        sample(0, findings=("No Finding",)),
        sample(0),
        sample(1, findings=("Mass",)),
        sample(1, findings=("Mass", "Edema")),
        sample(1),
    ]
    subgroups = subgroups_by_kind(samples, np.array([1.0, 3, 2, 4, 0]))["finding"]
    assert list(subgroups) == ["Edema", "Mass"]
    assert subgroups["Mass"].auc.value == 0.75 and subgroups["Edema"].auc.value == 1
    assert (subgroups["Mass"].num_normal, subgroups["Mass"].num_abnormal) == (2, 2)


def test_views_sexes_and_ages_are_told_within_themselves():
    facts = [("PA", "F", 17.9), ("PA", "M", 18), ("AP", "F", 65), ("AP", "F", 0.5), (None, None, None)]
    samples = [sample(i % 2, view=view, sex=sex, age=age) for i, (view, sex, age) in enumerate(facts)]
    subgroups = subgroups_by_kind(samples, np.array([1.0, 2, 3, 1, 0]))
    assert list(subgroups) == ["view", "sex", "age"]
    assert {name: subgroup.auc and subgroup.auc.value for name, subgroup in subgroups["view"].items()} == {
        "AP": 0,
        "PA": 1,
    }
    assert {name: (subgroup.num_normal, subgroup.num_abnormal) for name, subgroup in subgroups["age"].items()} == {
        "0 to 17": (1, 1),
        "18 to 39": (0, 1),
        "65 to 200": (1, 0),
    }
    assert subgroups["sex"]["M"].as_json() == {
        "value": None,
        "low": None,
        "high": None,
        "num_normal": 0,
        "num_abnormal": 1,
    }
    assert str(subgroups["sex"]["M"]) == "undefined; 0 normal, 1 abnormal"


def test_what_is_the_same_of_all_is_left_out():
    assert subgroups_by_kind([sample(0, view="PA"), sample(1, view="PA", findings=("x",))], np.array([1.0, 2])) == {}


@pytest.mark.parametrize("scores", [[1.0, 2, 3], [3.0, 2, 1]])
def test_subgroups_take_scores_as_they_are(scores):
    samples = [sample(0, view="PA"), sample(1, view="PA"), sample(1, view="AP")]
    assert subgroups_by_kind(samples, np.array(scores))["view"]["PA"].auc.value == float(scores[1] > scores[0])
