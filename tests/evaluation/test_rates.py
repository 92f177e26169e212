import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from salad.errors import InputError
from salad.evaluation.calibration import Calibration, shown_score
from salad.evaluation.rates import Confusion, Rate, sensitivity_at, specificity_at

scored = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), min_size=1, max_size=30)


def wilson(count, of):
    """Wilson's formula, as it is printed."""
    z, share = 1.959963984540054, count / of
    middle = share + z * z / (2 * of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - reach) / (1 + z * z / of), (middle + reach) / (1 + z * z / of)


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (399, 1000)])
def test_the_interval_is_wilsons(count, of):
    low, high = wilson(count, of)
    assert Rate(count, of).interval == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert Rate(count, of).as_json()["value"] == count / of
    assert f"{count} of {of}" in str(Rate(count, of))


@given(scored, st.integers(-6, 6))
def test_confusion_is_that_of_scikit_learn(images, threshold):
    labels, scores = map(list, zip(*images, strict=True))
    called = [int(score > threshold) for score in scores]
    found = Confusion.at(threshold, labels, scores)
    cells = confusion_matrix(labels, called, labels=[0, 1]).ravel().tolist()
    assert [found.true_negatives, found.false_positives, found.false_negatives, found.true_positives] == cells
    if {*labels} == {0, 1}:
        assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, called))
        assert found.f1 == pytest.approx(f1_score(labels, called, zero_division=0))
    else:
        assert found.balanced_accuracy is None and None in (found.sensitivity, found.specificity)


@given(scored.filter(lambda images: len({label for label, _ in images}) == 2), st.sampled_from([0.5, 0.9, 0.95, 1]))
def test_operating_points_are_the_best_ones_on_the_curve(images, wanted):
    labels, scores = map(np.array, zip(*images, strict=True))
    points = [
        ((scores[labels == 1] > t).mean(), (scores[labels == 0] <= t).mean()) for t in [*scores, scores.min() - 1]
    ]
    best = max(sensitivity for sensitivity, specificity in points if specificity >= wanted - 1e-9)
    assert sensitivity_at(wanted, labels.tolist(), scores).value == pytest.approx(best)
    best = max(specificity for sensitivity, specificity in points if sensitivity >= wanted - 1e-9)
    assert specificity_at(wanted, labels.tolist(), scores).value == pytest.approx(best)


def test_without_a_class_there_is_no_point():
    assert sensitivity_at(0.9, [0, 0], [1, 2]) is None and specificity_at(0.9, [1], [1]) is None


# calibration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("specificity", "threshold"), [(0.95, 18), (0.9, 17), (1, 19), (0.001, 0), (0.951, 19)])
def test_the_threshold_lets_so_many_normals_pass(specificity, threshold):
    normal = Calibration.of(np.random.default_rng(0).permutation(20))
    assert normal.threshold(specificity) == threshold
    assert (normal.scores <= threshold).mean() >= specificity


def test_percentiles_count_ties_half():
    normal = Calibration.of([3, 1, 2, 2])
    assert normal.percentile([0, 1, 2, 2.5, 3, 9]).tolist() == [0, 12.5, 50, 75, 87.5, 100]


def test_normals_among_themselves_have_a_mean_percentile_of_50():
    scores = np.random.default_rng(0).normal(size=33)
    assert Calibration.of(scores).percentile(scores).mean() == pytest.approx(50)


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (1.087789, "1.08779"),
        (1.4, "1.40000"),
        (0.42000436782836914, "0.420004"),
        (-12, "-12.0000"),
        (123456.7, "123457"),
    ],
)
def test_a_score_is_shown_with_six_digits(score, shown):
    assert shown_score(score) == shown
    assert len(shown.strip("-").replace(".", "").removeprefix("0")) == 6


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf]])
def test_there_is_no_calibration_without_scores(scores):
    with pytest.raises(InputError, match="needs the scores of normal images"):
        Calibration.of(scores)
