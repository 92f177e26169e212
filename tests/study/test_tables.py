import pytest

from salad.evaluation.tables import latex_table
from salad.study.results import Outcome, measure
from salad.study.tables import method_table, paper_table, subgroup_table


def outcome(seed, *, method="strong", **result):
    facts = {"auc": None, "num_normal": 3, "num_abnormal": 3}
    return Outcome(
        name=f"{method}/seed{seed}",
        method=method,
        seed=seed,
        fold=None,
        result=facts | result,
        scores=None,
        times={"train": 100.0 * seed, "test": 4.0},
        model_bytes=2_500_000,
    )


@pytest.fixture
def rows():
    views = [{"PA": {"value": 0.9}, "AP": {"value": 0.6}}, {"PA": {"value": 0.8}, "AP": {"value": None}}]
    rates = {"sensitivity": {"value": 0.5}, "specificity": {"value": 0.9}}
    base = {"image_mean": {"value": 0.25}, "image_std": None, "image_sharpness": {"value": 0.75}}
    first = [outcome(1, auc_by_view=views[0], baseline_auc=base), outcome(2, auc_by_view=views[1], at_threshold=rates)]
    second = [outcome(1, method="quick", auc_by_finding={"cyst": {"value": 1.0}}, at_threshold=None)]
    area = {"auc": {"value": 0.9634, "low": 0.95, "high": 0.9761}, "sd": 0.0031}
    return [
        {"method": "strong", "runs": 2, **measure(first), **area},
        {"method": "quick", "runs": 1, **measure(second)},
    ]


def test_a_column_is_there_where_a_method_has_its_number(rows):
    table = method_table(rows)
    assert table.header == [
        *("method", "runs", "AUC", "SD", "95 % CI", "specificity", "sensitivity", "image mean / std / sharpness"),
        *("training", "scoring", "model.tar"),
    ]
    numbers = ["2", "0.963", "0.003", "0.950 to 0.976", "90%", "50%", "0.250 / 0.750", "2 min", "4 s", "2.5 MB"]
    assert table.rows == [["strong", *numbers], ["quick", "1", *[""] * 6, "2 min", "4 s", "2.5 MB"]]


def test_the_paper_has_mean_spread_and_interval_in_one_cell(rows):
    lines = latex_table(paper_table(rows)).splitlines()
    assert lines[4] == r"strong & 2 & 0.963 $\pm$ 0.003 (0.950 to 0.976) & 90\% & 50\% \\"
    assert paper_table([rows[0] | {"sd": None}]).rows[0][2] == "0.963 (0.950 to 0.976)"


def test_subgroups_have_a_column_for_each_method(rows):
    table = subgroup_table(rows)
    assert table.header == ["subgroup", "strong", "quick"]
    assert table.rows == [["finding cyst", "", "1.000"], ["view PA", "0.850", ""], ["view AP", "0.600", ""]]
