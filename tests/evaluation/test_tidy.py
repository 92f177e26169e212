import csv

from salad.evaluation.tidy import COLUMNS, metric_rows, tidy_csv

RESULT = {
    "auc": {"value": 0.1 + 0.2, "low": 0.25, "high": 0.35},
    "interval": "DeLong, 95 %",
    "auc_bootstrap": {"value": 0.5, "low": 0.4, "high": 0.6, "num_resamples": 2000, "seed": 3},
    "baseline_auc": {"image_mean": {"value": 0.7, "low": 0.6, "high": 0.8}, "image_std": None},
    "auc_within_sharpness": None,
    "at_threshold": {"threshold": 1.5, "specificity": {"value": 0.9, "low": 0.8, "high": 1.0, "count": 9, "of": 10}},
    "auc_by_view": {"PA": {"value": 0.8, "low": 0.7, "high": 0.9, "num_normal": 4, "num_abnormal": 2}},
    "auc_by_patient": {"value": 0.6, "low": 0.5, "high": 0.7, "num_normal": 3, "num_abnormal": 1},
    "drift": {"is_found": True, "lines": ["far"], "num_films": 4},
    "num_normal": 5,
    "num_abnormal": 7,
    "seconds": 2.5,
    "made_from": {"isize": 128},
}


def test_every_number_is_a_row_and_no_setting_is():
    rows = {(row["subset"], row["metric"]): row for row in metric_rows(RESULT)}
    assert [*rows] == [
        ("all", "auc"),
        ("all", "auc_bootstrap"),
        ("all", "baseline_auc.image_mean"),
        ("all", "at_threshold.threshold"),
        ("all", "at_threshold.specificity"),
        ("view PA", "auc"),
        ("all", "auc_by_patient"),
        ("all", "drift.num_films"),
        ("all", "seconds"),
    ]
    assert rows["view PA", "auc"]["num_normal"] == 4 and rows["all", "auc"]["num_normal"] == 5
    assert rows["all", "auc_by_patient"]["num_abnormal"] == 1


def test_numbers_come_back_with_all_their_digits():
    [first, *_] = csv.DictReader(tidy_csv({"level": "run", **row} for row in metric_rows(RESULT)).splitlines())
    assert [*first] == [*COLUMNS]
    assert float(first["value"]) == RESULT["auc"]["value"] and first["seed"] == "" and first["level"] == "run"
