import csv
import json

import numpy as np
import pytest
from running import invoke

from salad.__main__ import main
from salad.errors import InputError
from salad.evaluation.comparison import as_text, compare_runs, holm
from salad.evaluation.metrics import auc, compare_aucs

LABELS = [0] * 20 + [1] * 20


@pytest.fixture
def write_run(tmp_path):
    """A folder as test.py leaves it, with scores of this seed."""

    def write(name, *, seed, labels=LABELS, images=None):
        scores = np.random.default_rng(seed).normal(size=len(labels)) + labels
        folder = tmp_path / name
        folder.mkdir()
        order = np.random.default_rng(seed).permutation(len(labels))
        with (folder / "scores.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "score", "percentile"])
            writer.writerows([(images or f"{i:02}.png").format(i=i), labels[i], scores[i], ""] for i in order)
        baselines = {"image_mean": {"value": 0.25}, "image_std": None}
        (folder / "metrics.json").write_text(json.dumps({"baseline_auc": baselines}))
        return str(folder), scores

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


@pytest.mark.parametrize("form", ["text", "csv", "latex"])
def test_the_command_prints_every_number(write_run, form):
    places = [write_run(f"run_{seed}", seed=seed)[0] for seed in range(2)]
    result = invoke(main, "compare", *places, "--format", form)
    assert result.exit_code == 0, result.stderr
    for number in (compare_runs(places).runs[1].auc.low, 0.25, compare_runs(places).pairs[0].p):
        assert f"{number:.4f}" in result.stdout
    assert ("run\\_1" in result.stdout) == (form == "latex")
    if form == "csv":
        rows = list(csv.reader(result.stdout.splitlines()))
        assert {len(row) for row in rows} == {0, 5, 6, 8}


@pytest.mark.parametrize(
    ("labels", "images", "said"),
    [
        (LABELS[::-1], None, "00.png"),
        (LABELS, "other/{i:02}.png", "00.png"),
        (LABELS[:-1], None, "39.png"),
    ],
)
def test_other_images_are_an_error(write_run, labels, images, said):
    places = [write_run("one", seed=0)[0], write_run("two", seed=1, labels=labels, images=images)[0]]
    with pytest.raises(InputError, match="are not of the same images") as error:
        compare_runs(places)
    assert f"({said}, for one)" in str(error.value)


def test_unfit_folders_are_told(write_run, tmp_path):
    with pytest.raises(InputError, match="run test.py with this XP_PATH first"):
        compare_runs([str(tmp_path / "nowhere")])
    with pytest.raises(InputError, match="of normal and of abnormal images"):
        compare_runs([write_run("normal", seed=0, labels=[0] * 5)[0]])
    place, _ = write_run("twice", seed=0)
    with pytest.raises(InputError, match="named more than once"):
        compare_runs([place, place])
    (tmp_path / "twice/scores.csv").write_text("path,label\nx,normal\n")
    with pytest.raises(InputError, match="was not written by test.py"):
        compare_runs([place])
