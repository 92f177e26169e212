import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from salad.groups import by_unit
from salad.metrics import auc

FEW_LEVELS = st.integers(-3, 3)  # so that ties are common
groups = st.tuples(st.lists(FEW_LEVELS, min_size=1, max_size=15), st.lists(FEW_LEVELS, min_size=1, max_size=15))


def psi(abnormal, normal):
    return 1.0 if abnormal > normal else 0.5 if abnormal == normal else 0.0


def naive_delong(normal, abnormal):
    """AUC and its variance S10 / m + S01 / n, in the letters of DeLong et al. 1988: m abnormal, n normal."""
    m, n = len(abnormal), len(normal)
    theta = sum(psi(x, y) for x in abnormal for y in normal) / (m * n)
    v10 = [sum(psi(x, y) for y in normal) / n for x in abnormal]
    v01 = [sum(psi(x, y) for x in abnormal) / m for y in normal]
    s10 = sum((v - theta) ** 2 for v in v10) / (m - 1) if m > 1 else None
    s01 = sum((v - theta) ** 2 for v in v01) / (n - 1) if n > 1 else None
    return theta, None if s10 is None or s01 is None else s10 / m + s01 / n


def auc_of(normal, abnormal, **options):
    return auc([0] * len(normal) + [1] * len(abnormal), [*normal, *abnormal], **options)


@settings(deadline=None)
@given(groups)
def test_auc_is_the_share_of_ordered_pairs(found):
    normal, abnormal = found
    value = auc_of(normal, abnormal).value
    assert value == pytest.approx(naive_delong(normal, abnormal)[0], abs=1e-12)
    labels = [0] * len(normal) + [1] * len(abnormal)
    assert value == pytest.approx(roc_auc_score(labels, normal + abnormal), abs=1e-12)


@settings(deadline=None)
@given(groups.filter(lambda found: min(map(len, found)) > 1))
def test_interval_is_delongs(found):
    normal, abnormal = found
    value, variance = naive_delong(normal, abnormal)
    interval = auc_of(normal, abnormal)
    reach = 1.959963984540054 * math.sqrt(variance)
    assert interval.low == pytest.approx(max(0, value - reach), abs=1e-9)
    assert interval.high == pytest.approx(min(1, value + reach), abs=1e-9)


@settings(deadline=None)
@given(groups)
def test_interval_holds_the_value_and_lies_in_0_1(found):
    interval = auc_of(*found)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize(("normal", "abnormal"), [([], [1, 2]), ([1, 2], []), ([], [])])
def test_one_class_has_no_auc(normal, abnormal):
    assert auc_of(normal, abnormal) is None


def test_one_image_of_a_class_gives_a_wide_interval():
    interval = auc_of([0, 1, 2, 3], [2.5])
    assert interval.value == 0.75
    assert interval.high - interval.low > 0.9


@given(groups)
@settings(deadline=None)
def test_only_the_order_of_scores_counts(found):
    normal, abnormal = found
    assert auc_of(normal, abnormal) == auc_of(list(np.exp(normal)), list(np.exp(abnormal)))


@given(groups)
@settings(deadline=None)
def test_swapping_the_classes_mirrors_the_interval(found):
    plain, swapped = auc_of(*found), auc_of(*found[::-1])
    assert plain.value == pytest.approx(1 - swapped.value, abs=1e-12)
    assert plain.low == pytest.approx(1 - swapped.high, abs=1e-9)


def test_more_confidence_reaches_further():
    normal, abnormal = [0, 1, 2, 3, 4], [2, 3, 4, 5, 6]
    wide, narrow = auc_of(normal, abnormal, confidence=0.99), auc_of(normal, abnormal, confidence=0.5)
    assert wide.low < narrow.low < narrow.value < narrow.high


def test_interval_covers_the_truth_in_about_95_of_100_draws():
    rng, truth, hits = np.random.default_rng(0), 0.7602499389065233, 0  # Phi(1 / sqrt 2), for N(0, 1) and N(1, 1)
    for _ in range(400):
        interval = auc_of(rng.normal(size=40), rng.normal(1, size=40))
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / 400 <= 0.98


def test_text_and_json():
    interval = auc_of([0, 1], [0, 1])
    assert str(interval).startswith("0.5000 (95 % CI 0.")
    assert interval.as_json() == {"value": 0.5, "low": interval.low, "high": interval.high}


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
