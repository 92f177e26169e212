import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from salad.evaluation.metrics import (
    auc,
    auc_within,
    average_precision,
    bootstrap_auc,
    compare_aucs,
    compare_aucs_of_folds,
    mean_auc,
    mean_auc_of_folds,
)

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


def test_agrees_with_the_published_example_of_pauc():
    """The example of the package pauc (MIT): AUC 0.708, 95 % CI (0.378, 1.000)."""
    labels = [0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1]
    found = auc(labels, [0.1, 0.35, 0.24, 0.8, 0.2, 0.85, 0.13, 0.85, 0.74, 0.58, 0.71, 0.25])
    assert [round(value, 3) for value in (found.value, found.low, found.high)] == [0.708, 0.378, 1.0]


# bootstrap ------------------------------------------------------------------------------------------------------


def naive_bootstrap(normal, abnormal, num_resamples):
    rng, areas = np.random.default_rng(1), []
    for _ in range(num_resamples):
        drawn = rng.choice(normal, len(normal)), rng.choice(abnormal, len(abnormal))
        areas.append(roc_auc_score([0] * len(normal) + [1] * len(abnormal), np.concatenate(drawn)))
    return np.quantile(areas, [0.025, 0.975])


@pytest.mark.slow
def test_bootstrap_draws_within_classes():
    rng = np.random.default_rng(0)
    normal, abnormal = rng.normal(size=30).round(1), rng.normal(0.8, size=20).round(1)
    labels, scores = [0] * 30 + [1] * 20, [*normal, *abnormal]
    found = bootstrap_auc(labels, scores, seed=0)
    low, high = naive_bootstrap(normal, abnormal, 1500)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert found.value == auc(labels, scores).value
    assert found == bootstrap_auc(labels, scores, seed=0) != bootstrap_auc(labels, scores, seed=1)
    assert bootstrap_auc([0, 0], [1, 2], seed=0) is None


# two AUCs -------------------------------------------------------------------------------------------------------


def naive_p(labels, first, second):
    """The paired test of DeLong et al., in sums over all pairs of images."""

    def components(scores):
        normal = [s for s, label in zip(scores, labels, strict=True) if not label]
        abnormal = [s for s, label in zip(scores, labels, strict=True) if label]
        v10 = [np.mean([psi(x, y) for y in normal]) for x in abnormal]
        v01 = [np.mean([psi(x, y) for x in abnormal]) for y in normal]
        return v10, v01

    (a10, a01), (b10, b01) = components(first), components(second)
    covariance = np.cov(a10, b10) / len(a10) + np.cov(a01, b01) / len(a01)
    z = (np.mean(a10) - np.mean(b10)) / math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    return math.erfc(abs(z) / math.sqrt(2))


@pytest.mark.parametrize("seed", range(5))
def test_paired_p_value_is_delongs(seed):
    rng = np.random.default_rng(seed)
    labels = [0] * 15 + [1] * 12
    first = rng.normal(size=27).round(1) + labels
    second = (0.5 * first + rng.normal(size=27)).round(1)
    assert compare_aucs(labels, first, second) == pytest.approx(naive_p(labels, first, second), abs=1e-9)
    assert compare_aucs(labels, first, second) == compare_aucs(labels, second, first)


def test_paired_p_values_are_spread_evenly_where_nothing_differs():
    rng, labels, small = np.random.default_rng(0), [0] * 40 + [1] * 40, 0
    for _ in range(300):
        common = rng.normal(size=80) + labels
        small += compare_aucs(labels, common + rng.normal(size=80), common + rng.normal(size=80)) < 0.1
    assert 0.06 <= small / 300 <= 0.14


def test_equal_scores_do_not_differ():
    assert compare_aucs([0, 0, 1, 1], [1, 3, 2, 4], [10, 30, 20, 40]) == 1
    assert compare_aucs([0, 1, 1], [1, 3, 2], [1, 2, 3]) is None


def test_of_several_models_the_mean_counts():
    rng, labels = np.random.default_rng(0), [0] * 30 + [1] * 30
    first, second = rng.normal(size=(3, 60)) + labels, rng.normal(size=(2, 60))
    one = compare_aucs(labels, first, second)
    assert one == compare_aucs(labels, first[::-1], second) != compare_aucs(labels, first[0], second)
    assert compare_aucs(labels, [first[0]] * 3, second[0]) == pytest.approx(compare_aucs(labels, first[0], second[0]))


def test_average_precision_is_of_raw_scores():
    labels, scores = [0, 1, 0, 1, 1], [-30.0, 1e-9, 2e-9, 500.0, -29.0]
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))
    assert average_precision([1, 1], [0, 1]) is None


def naive_within(labels, scores, by, num_strata):
    """Share of ordered pairs of the same stratum, pair by pair; strata by rank, where no two are alike."""
    stratum = np.argsort(np.argsort(by)) * num_strata // len(by)
    pairs = [
        psi(scores[i], scores[j])
        for i in np.flatnonzero(labels)
        for j in np.flatnonzero(np.equal(labels, 0))
        if stratum[i] == stratum[j]
    ]
    return np.mean(pairs) if pairs else None


@pytest.mark.parametrize("seed", range(5))
def test_auc_within_strata_is_the_share_of_ordered_pairs_of_a_stratum(seed):
    draw = np.random.default_rng(seed)
    labels, by = draw.integers(0, 2, 60), draw.permutation(60).astype(float)
    scores = labels + draw.normal(size=60)
    found = auc_within(labels, scores, strata_of=by, num_strata=4)
    assert found.value == pytest.approx(naive_within(labels, scores, by, 4))
    assert found.low < found.value < found.high


def test_a_score_that_only_tells_the_stratum_is_worth_nothing_within():
    draw = np.random.default_rng(0)
    by = draw.normal(size=4000)
    labels = (by + draw.normal(size=4000) > 0).astype(int)
    assert auc(labels, by).value > 0.75
    assert auc_within(labels, np.round(by), strata_of=by, num_strata=40).value == pytest.approx(0.5, abs=0.05)


def test_in_one_stratum_it_is_the_auc_with_its_interval():
    labels, scores = [0, 1, 0, 1, 1], [0.1, 0.3, 0.2, 0.15, 0.9]
    assert auc_within(labels, scores, strata_of=np.zeros(5)) == auc(labels, scores)
    assert auc_within([0, 0], [1, 2], strata_of=[1, 2]) is None
    assert auc_within([0, 1], [1, 2], strata_of=[1, 2], num_strata=2) is None  # no two of a stratum


def test_the_mean_auc_of_one_model_is_its_auc_and_of_several_has_its_own_interval():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 50)
    scores = labels + draw.normal(size=(3, 50))
    assert mean_auc(labels, scores[:1]) == auc(labels, scores[0])
    found, single = mean_auc(labels, scores), [auc(labels, one) for one in scores]
    assert found.value == pytest.approx(np.mean([one.value for one in single]))
    assert found.high - found.low < max(one.high - one.low for one in single)  # their errors are not the same
    assert mean_auc([1, 1], [[0, 1]]) is None


# Two folds with two models each, on scales of their own: AUCs of 3/4 and 1, and of 1/2 and 1.
FOLDS = [
    ([0, 0, 1, 1], [[1, 3, 2, 4], [10, 20, 30, 40]]),
    ([0, 0, 1, 1], [[0.1, 0.4, 0.2, 0.3], [-4, -3, -2, -1]]),
]


def test_mean_over_folds_and_its_interval_are_as_computed_by_hand():
    found = mean_auc_of_folds(FOLDS)
    assert found.value == pytest.approx((0.875 + 0.75) / 2)
    # mean components of fold 1: abnormal 3/4, 1; normal 1, 3/4. Of fold 2: abnormal 3/4, 3/4; normal 1, 1/2.
    first, second = 2 * (1 / 32) / 2, 0 + (1 / 8) / 2
    reach = 1.959963984540054 * math.sqrt((first + second) / 4)
    assert found.low == pytest.approx(found.value - reach) and found.high == pytest.approx(min(1, found.value + reach))


def test_methods_are_compared_within_each_fold():
    labels = [0, 0, 1, 1]
    folds = [(labels, [1, 3, 2, 4], [1, 4, 2, 3]), (labels, [10, 20, 30, 40], [10, 30, 20, 40])]
    # fold 1: components 1/2, 1 and 1, 1/2 against 1/2, 1/2 and 1, 0; fold 2: 1, 1 and 1, 1 against 1/2, 1 and 1, 1/2
    first = second = 2 * (1 / 8) / 2
    z = ((0.75 - 0.5) + (1 - 0.75)) / 2 / math.sqrt((first + second) / 4)
    assert compare_aucs_of_folds(folds) == pytest.approx(math.erfc(z / math.sqrt(2)))


def test_the_scale_of_a_fold_does_not_count_and_one_fold_is_no_folds():
    (labels, scores), other = FOLDS
    shifted = mean_auc_of_folds([(labels, np.exp(np.asarray(scores) / 10) - 7), other])
    assert shifted == mean_auc_of_folds(FOLDS)
    assert mean_auc_of_folds([FOLDS[0]]) == mean_auc(*FOLDS[0])
    assert mean_auc_of_folds([FOLDS[0], ([0, 0], [[1, 2]])]) is None
    assert compare_aucs_of_folds([(labels, scores, scores), ([0, 1, 1], [1, 2, 3], [1, 2, 3])]) is None


@pytest.mark.slow
def test_the_interval_over_folds_covers_as_often_as_it_says():
    generator, truth, covered = np.random.default_rng(0), 0.7602499389065233, 0  # of N(1, 1) above N(0, 1)
    labels = [0] * 30 + [1] * 20
    for _ in range(400):
        folds = [(labels, generator.normal(size=50) + labels) for _ in range(5)]
        found = mean_auc_of_folds(folds)
        covered += found.low <= truth <= found.high
    assert 0.91 < covered / 400 < 0.98
