import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from running import LABELS, invoke, write_results

from salad.cli import main
from salad.errors import InputError
from salad.evaluation.comparison import compare_runs, holm
from salad.evaluation.metrics import auc, compare_aucs
from salad.evaluation.tables import as_text


@pytest.fixture
def write_run(tmp_path):
    """A folder as test.py leaves it, with scores of this seed."""

    def write(name, *, seed, **more):
        return str(tmp_path / name), write_results(tmp_path / name, seed=seed, **more)

    return write


def test_runs_of_one_method_have_a_mean_and_a_spread(write_run):
    runs = [write_run(f"seed{seed}", seed=seed) for seed in range(3)]
    found = compare_runs([place for place, _ in runs])
    values = [auc(LABELS, scores).value for _, scores in runs]
    assert [run.auc for run in found.runs] == [auc(LABELS, scores) for _, scores in runs]
    assert f"all     3     {np.mean(values):.4f}    {np.std(values, ddof=1):.4f}" in as_text(found)
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        (runs[i][0], runs[j][0]) for i, j in [(0, 1), (0, 2), (1, 2)]
    ]
    for pair, (i, j) in zip(found.pairs, [(0, 1), (0, 2), (1, 2)], strict=True):
        assert pair.p == pytest.approx(compare_aucs(LABELS, runs[i][1], runs[j][1]), abs=1e-9)
        assert pair.difference == pytest.approx(values[i] - values[j])
    assert [pair.p_holm for pair in found.pairs] == holm([pair.p for pair in found.pairs])


def test_methods_are_compared_by_their_mean_auc(write_run):
    one, two = [write_run(f"one{seed}", seed=seed) for seed in range(2)], [write_run("two", seed=7)]
    found = compare_runs([*(f"one={place}" for place, _ in one), f"two={two[0][0]}"])
    assert {name: len(runs) for name, runs in found.methods.items()} == {"one": 2, "two": 1}
    (pair,) = found.pairs
    assert pair.p == pytest.approx(compare_aucs(LABELS, [scores for _, scores in one], two[0][1]), abs=1e-9)


def test_p_values_are_adjusted_as_by_holm():
    assert holm([0.01, 0.04, 0.03, 0.5]) == [0.04, pytest.approx(0.09), 0.09, 0.5]
    assert holm([0.9, 0.9]) == [1, 1] and holm([]) == []


def test_a_single_run_is_shown_alone(write_run):
    found = compare_runs([write_run("run_1", seed=0)[0]])
    assert found.pairs == [] and "p (Holm)" not in as_text(found)
    assert found.runs[0].baselines == {"image_mean": 0.25}


@pytest.mark.parametrize(
    ("labels", "images", "said"),
    [
        (LABELS[::-1], "{i:02}.png", "00.png"),
        (LABELS, "other/{i:02}.png", "00.png"),
        (LABELS[:-1], "{i:02}.png", "39.png"),
    ],
)
def test_other_images_are_an_error(write_run, labels, images, said):
    places = [write_run("one", seed=0)[0], write_run("two", seed=1, labels=labels, images=images)[0]]
    with pytest.raises(InputError, match="are not of the same images") as error:
        compare_runs(places)
    assert f"({said}, for one)" in str(error.value)


@pytest.mark.parametrize("place", ["", " ", "=", "method="])
def test_an_empty_name_is_no_run(write_run, tmp_path, monkeypatch, place):
    monkeypatch.chdir(write_run("one", seed=0)[0])
    with pytest.raises(InputError, match="an empty RUN is given: is a variable not set"):
        compare_runs([place])
    assert len(compare_runs(["."]).runs) == 1


def test_unfit_folders_are_told(write_run, tmp_path):
    with pytest.raises(InputError, match="run test.py with this XP_PATH first"):
        compare_runs([str(tmp_path / "nowhere")])
    with pytest.raises(InputError, match="of normal and of abnormal images"):
        compare_runs([write_run("normal", seed=0, labels=[0] * 5)[0]])
    place, _ = write_run("twice", seed=0)
    with pytest.raises(InputError, match="named more than once"):
        compare_runs([place, place])
    for text, reason in [
        ("path,label\nx,0\n", "no column or label is 'score'"),
        ("path,label,score\nx,7,1\n", "no column or label is '7'"),
        ("", "it is empty"),
    ]:
        (tmp_path / "twice/scores.csv").write_text(text)
        with pytest.raises(InputError, match=rf"was not written by test.py \({reason}\)$"):
            compare_runs([place])


def test_warnings_of_a_run_are_shown_beside_its_numbers(write_run):
    place, _ = write_run("run", seed=0)
    path = Path(place, "metrics.json")
    path.write_text(json.dumps({"warnings": ["the score svdd is meaningless", "k is 3\x1b"]}))
    result = invoke(main, "compare", place)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [rf"{place}: the score svdd is meaningless; k is 3\x1b"]


ODD = [None, True, -1, 2, 10**400, 1e308, float("nan"), float("inf"), "", "x", "nan", "\0", "1_0", " 1", [], {}, [[1]]]
ODD_CELLS = [
    "",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1_0",
    " 1",
    "0x1",
    "9" * 5000,
    "\0",
    '"',
    "a,b",
    "\n",
    "٣",
    "-0",
    "true",
]


def mutate(path: Path, choose: random.Random) -> None:
    """Replace one value of a file, some of its bytes, or all of the file."""
    kind = choose.randrange(6)
    text = path.read_text()
    if kind == 0:
        path.unlink()
        [path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path), lambda: None][choose.randrange(4)]()
    elif kind == 1:
        content = bytearray(text.encode())
        for _ in range(choose.randint(1, 5)):
            content[choose.randrange(len(content))] = choose.randrange(256)
        path.write_bytes(content)
    elif kind == 2:
        path.write_text(text[: choose.randrange(len(text))])
    elif path.suffix == ".csv":
        rows = [row.split(",") for row in text.splitlines()]
        row = rows[choose.randrange(len(rows))]
        row[choose.randrange(len(row))] = choose.choice(ODD_CELLS)
        path.write_text("\n".join(",".join(row) for row in rows))
    else:
        value = choose.choice(ODD)
        odd = [{"baseline_auc": {"image_mean": {"value": value}}}, {"baseline_auc": value}, {"warnings": value}]
        odd += [value, {"baseline_auc": {"image_mean": value}}, {"warnings": [value]}]
        path.write_text(choose.choice([json.dumps(choose.choice(odd)), "[" * 100_000, '{"a":' * 5000, "9" * 5000]))


@pytest.mark.parametrize("seed", range(20))
def test_odd_runs_give_numbers_or_one_line(write_run, tmp_path, seed):
    choose = random.Random(seed)
    for number in range(10):
        place, _ = write_run(f"run{number}", seed=number)
        mutate(tmp_path / f"run{number}" / choose.choice(["scores.csv", "metrics.json"]), choose)
        result = invoke(main, "compare", place, "--format", choose.choice(["text", "csv", "latex"]))
        assert isinstance(result.exception, SystemExit | None), repr(result.exception)
        assert result.exit_code in (0, 2), result.stderr
        *_, last = result.stderr.splitlines() or [""]
        assert result.exit_code == 0 or (last.startswith("Error: ") and len(last) < 500), result.stderr


@pytest.mark.parametrize("place", ["\0", "a\0=b", "x" * 5000, "../" * 2000])
def test_odd_names_of_runs_are_refused_in_one_line(place):
    with pytest.raises(InputError, match=r"scores.csv: cannot be read"):
        compare_runs([place])


def test_an_image_that_is_named_twice_is_refused(write_run):
    place, _ = write_run("run", seed=0, images="same.png")
    with pytest.raises(InputError, match="names 39 images twice"):
        compare_runs([place])
