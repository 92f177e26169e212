import pytest

from salad.evaluation.few import few_for_auc, few_to_calibrate, few_to_train, not_measured


@pytest.mark.parametrize(
    ("num_normal", "options", "starts"),
    [
        (20, {"least": 3}, []),
        (19, {"least": 3}, ["threshold and percentiles come from only 19 normal images"]),
        (3, {"least": 3}, ["threshold and percentiles come from only 3 normal images"]),
        (2, {"least": 3}, ["no threshold and no percentiles: only 2 normal images, fewer than --min_normals 3"]),
        (1, {"least": 3}, ["no threshold and no percentiles: only 1 normal image, fewer than --min_normals 3"]),
        (1, {"least": 1}, ["threshold and percentiles come from only 1 normal image; below 20"]),
        (30, {"least": 3, "is_fused": True}, []),
        (
            4,
            {"least": 5, "is_fused": True},
            ["no threshold and no", "the parts of the fused score"],
        ),
    ],
)
def test_a_threshold_from_few_images_is_said_or_refused(num_normal, options, starts):
    found = few_to_calibrate(num_normal, **options)
    assert len(found) == len(starts) and all(map(str.startswith, found, starts))


@pytest.mark.parametrize(
    ("num_normal", "num_abnormal", "is_said"),
    [(1, 1, True), (9, 500, True), (500, 9, True), (10, 10, False), (0, 3, False), (3, 0, False)],
)
def test_an_auc_of_few_images_of_a_class_is_said(num_normal, num_abnormal, is_said):
    assert bool(few_for_auc("val", num_normal=num_normal, num_abnormal=num_abnormal)) == is_said


def test_few_images_to_train_on_are_said():
    assert [len(few_to_train(count)) for count in (1, 2, 9, 10, 1000)] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("num_normal", "num_abnormal", "has_threshold", "said"),
    [
        (8, 0, True, "no abnormal test image: AUC and sensitivity are not measured; the specificity is, on 8 images"),
        (0, 5, True, "no normal test image: AUC and specificity are not measured; the sensitivity is, on 5 images"),
        (8, 0, False, "no abnormal test image: AUC and sensitivity are not measured; nor is the specificity, for lack"),
        (8, 5, False, None),
    ],
)
def test_what_one_class_cannot_show_is_said(num_normal, num_abnormal, has_threshold, said):
    lines = not_measured(num_normal=num_normal, num_abnormal=num_abnormal, has_threshold=has_threshold)
    assert len(lines) == (said is not None) and all(line.startswith(said) for line in lines)
