import csv

import pytest
from running import LABELS, invoke, write_results

from salad.cli import main
from salad.evaluation.comparison import compare_runs
from salad.evaluation.tables import Table, latex_table, text_table
from salad.evaluation.tidy import COLUMNS


@pytest.fixture
def places(tmp_path):
    for seed in range(2):
        write_results(tmp_path / f"run_{seed}", seed=seed)
    return [str(tmp_path / f"run_{seed}") for seed in range(2)]


@pytest.mark.parametrize("form", ["text", "latex"])
def test_the_command_prints_every_number(places, form):
    result = invoke(main, "compare", *places, "--format", form)
    assert result.exit_code == 0, result.stderr
    for number in (compare_runs(places).runs[1].auc.low, 0.25, compare_runs(places).pairs[0].p):
        assert f"{number:.4f}" in result.stdout
    assert ("run\\_1" in result.stdout) == (form == "latex")


def read(text):
    rows = [*csv.DictReader(text.splitlines())]
    assert all({*row} == {*COLUMNS} and None not in row.values() for row in rows)
    return {(row["level"], row["method"], row["other"], row["run"], row["metric"]): row for row in rows}


def test_csv_is_one_tidy_table_with_all_digits(places):
    found, rows = compare_runs(places), read(invoke(main, "compare", *places, "--format", "csv").stdout)
    for run in found.runs:
        row = rows["run", "", "", run.name, "auc"]
        assert tuple(float(row[name]) for name in ("value", "low", "high")) == (
            run.auc.value,
            run.auc.low,
            run.auc.high,
        )
        assert (row["num_normal"], row["num_abnormal"]) == (str(LABELS.count(0)), str(LABELS.count(1)))
        assert rows["run", "", "", run.name, "baseline_auc.image_mean"]["value"] == "0.25"
    [pair] = found.pairs
    assert float(rows["pair", "", pair.second, pair.first, "p"]["value"]) == pair.p
    assert float(rows["method", "", "", "", "num_runs"]["value"]) == 2
    assert rows["method", "", "", "", "auc_sd"]["value"] and len(rows) == 2 * 2 + 3 + 3

    named = read(invoke(main, "compare", f"a={places[0]}", f"b={places[1]}", "--format", "csv").stdout)
    assert float(named["pair", "a", "b", "", "auc_difference"]["value"]) == pair.difference
    assert named["method", "b", "", "", "auc_sd"]["value"] == ""


def test_names_that_look_like_formulas_are_told_apart_from_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("=a", 0), ("-b", 1)):
        write_results(tmp_path / name, seed=seed, images="=cmd{i:02}.png")
    result = invoke(main, "compare", "./=a", "@x=./-b", "--format", "csv")
    assert result.exit_code == 0, result.stderr
    cells = [cell for row in csv.reader(result.stdout.splitlines()) for cell in row]
    assert "'@x" in cells and any(cell.startswith(("0.", "-0.")) for cell in cells)


def test_latex_escapes_what_it_would_take_for_commands():
    rows = [["a_b & 100 % of $x$ {#1} \\y ~ ^", "0.963 ± 0.003"]]
    text = latex_table(Table(["method", "AUC"], rows)).splitlines()
    assert text[0] == r"\begin{tabular}{ll}" and text[-1] == r"\end{tabular}"
    cells = r"a\_b \& 100 \% of \$x\$ \{\#1\} \textbackslash{}y \textasciitilde{} \textasciicircum{}"
    assert text[4] == cells + r" & 0.963 $\pm$ 0.003 \\"


def test_text_is_in_columns():
    assert text_table(Table(["method", "p"], [["a", "0.5"], ["longer name", ""]])).splitlines() == [
        "method       p",
        "a            0.5",
        "longer name",
    ]
