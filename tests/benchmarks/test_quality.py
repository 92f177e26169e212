import csv
import json
import shutil

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from running import read_csv, run_in_process, score

from benchmarks import quality
from benchmarks.jitter import jitter, write_jittered
from salad import cli
from salad.checkpoint import load_checkpoint
from salad.datasets import phantom, read_split
from salad.evaluation.metrics import auc, mean_auc
from salad.samples import Selection
from salad.scoring.training_images import enrolled_in

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=8, num_val=3, num_test=3)
    return root


@pytest.fixture
def calls(monkeypatch):
    """The commands run in this process, with a small network; their calls are kept."""
    return run_in_process(monkeypatch)


def run(data, out, *words):
    return CliRunner().invoke(quality.main, ["--data", f"small=CXR_author:{data}", "--out", str(out), *words])


METHODS = ("--method", "knn=unet", "--method", "rec=unet --score reconstruction", "--seed", "1", "--seed", "2")


def test_the_table_is_of_what_the_programs_gave(data, tmp_path, calls):
    result = run(data, tmp_path, *METHODS)
    assert result.exit_code == 0, result.stderr
    assert len(calls) == 2 * 2 * 3  # methods, seeds, programs
    rows = {row["method"]: row for row in json.loads((tmp_path / "quality.json").read_text())}
    for method, options in (("knn", ()), ("rec", ("--score", "reconstruction"))):
        row, folders = rows[method], [tmp_path / "small" / method / f"seed{seed}" for seed in (1, 2)]
        scores = [score(folder, data, *options) for folder in folders]
        labels = [int("abnormal" in line["path"]) for line in csv.DictReader((folders[0] / "scores.csv").open())]
        aucs = [auc(labels, one).value for one in scores]
        assert row["aucs"] == pytest.approx(aucs)
        assert row["sd"] == pytest.approx(np.std(aucs, ddof=1))
        assert row["auc"] == pytest.approx(mean_auc(labels, scores).as_json())
        shifted = json.loads((folders[0] / "jittered/metrics.json").read_text())
        assert row["jittered"][0] == pytest.approx(shifted["auc"]["value"])
        assert f"| small | {method} | 2 | {np.mean(aucs):.3f} |" in result.stdout
        assert len(row["train_seconds"]) == 2
        assert row["model_bytes"] == (folders[0] / "model.tar").stat().st_size
        assert [path.name for path in folders[0].glob("model_round*.tar")] == ["model_round1.tar"]


def test_what_is_done_is_not_repeated_and_what_failed_is_said(data, tmp_path, calls, monkeypatch):
    assert run(data, tmp_path, *METHODS).exit_code == 0
    calls.clear()
    assert run(data, tmp_path, *METHODS).exit_code == 0
    assert calls == []

    (tmp_path / "small/knn/seed2/metrics.json").unlink()
    again = run(data, tmp_path, *METHODS)
    assert again.exit_code == 0 and [program for program, *_ in calls] == ["train", "test", "test"]
    assert "resumed: after 2 epochs" not in again.stderr  # the commands speak into output.txt

    failing = run(data, tmp_path, "--method", "bad=unet --lr -1", "--method", "knn=unet", "--seed", "1")
    assert failing.exit_code == 1 and "1 of 2 runs failed" in failing.stderr
    assert "| small | knn | 1 |" in failing.stdout


def test_groups_left_out_and_other_sets_are_rows_of_the_table(data, tmp_path, calls):
    lines = [f"{path.relative_to(data).as_posix()},1" for path in sorted(data.glob("t*/0.normal/*0.png"))]
    (tmp_path / "groups.csv").write_text("\n".join(["path,tall", *lines]))
    boxes = tmp_path / "boxes/test/1.abnormal"
    shutil.copytree(data / "test/1.abnormal", boxes)
    words = ["--data", f"boxes=CXR_author:{boxes.parent.parent}", "--method", "knn=unet", "--seed", "1", "--across"]
    words += ["--leave_out", f"tall=small:{tmp_path / 'groups.csv'}:tall"]
    result = run(data, tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    assert "boxes is only scored on" in result.stderr
    rows = json.loads((tmp_path / "out/quality.json").read_text())
    titles = ["small", "small, scored on boxes", "tall", "tall, scored on small", "tall, scored on boxes"]
    assert [row["data"] for row in rows] == titles
    own, on_boxes, tall, *_ = rows
    assert own["specificity"] and own["auc"] and len(own["jittered"]) == 1
    assert on_boxes["auc"] is None and on_boxes["sensitivity"] and not on_boxes["specificity"]
    folder = tmp_path / "out/tall/knn/seed1"
    facts = json.loads((folder / "metrics.json").read_text())
    assert facts["num_normal"] == len(lines) == 2
    assert tall["specificity"] == [facts["at_threshold"]["specificity"]["value"]]
    assert [line.split(" | ")[0] for line in result.stdout.splitlines()[2:]] == [f"| {title}" for title in titles]

    calls.clear()
    (folder / "on_boxes/metrics.json").unlink()
    assert run(data, tmp_path / "out", *words).stdout == result.stdout
    assert [(program, words[2]) for program, *words in calls] == [("test", str(folder / "on_boxes"))]


def test_images_left_out_are_enrolled(data, tmp_path, calls):
    lines = [f"{path.relative_to(data).as_posix()},1" for path in sorted(data.glob("t*/0.normal/*[0-2].png"))]
    (tmp_path / "groups.csv").write_text("\n".join(["path,tall", *lines]))
    group = f"tall=small:{tmp_path / 'groups.csv'}:tall"
    result = run(data, tmp_path, "--method", "knn=unet", "--seed", "1", "--leave_out", group, "--enrol", "4")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "quality.json").read_text())
    assert [row["data"] for row in rows] == ["small", "tall", "tall, 0 enrolled", "tall, 4 enrolled"]
    assert all(row["auc"] and row["specificity"] for row in rows)
    folder = tmp_path / "tall/knn/seed1"
    tested = [[line["path"] for line in read_csv(folder / f"enrolled_4/{count}/scores.csv")] for count in (0, 4)]
    assert tested[0] == tested[1] and len(tested[0]) == 2 + 3  # of six normal images left out, and all abnormal ones
    [enrol] = [words for program, *words in calls if program == "enrol"]
    assert not {*enrol}.intersection(tested[0])
    assert len(enrolled_in(load_checkpoint(folder / "enrolled_4/4/model.tar"))) == 4


def test_any_class_names_and_a_test_set_without_like_sharpness_will_do(data, tmp_path, calls):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for folder in sorted(other.glob("*/*.*")):
        folder.rename(folder.with_name(folder.name.replace(".", "_")))
    for folder in (other / "test").iterdir():
        for path in sorted(folder.iterdir())[1:]:  # one normal, one abnormal image: hardly of one fifth
            path.unlink()
    result = run(other, tmp_path / "out", "--method", "knn=unet", "--seed", "1")
    assert result.exit_code == 0, result.output
    row = json.loads((tmp_path / "out/quality.json").read_text())[0]
    assert row["within_sharpness"] == [] and len(row["jittered"]) == 1


def test_methods_are_main_py_commands(data, tmp_path, calls):
    for words in quality.METHODS.values():
        net_name, *options = words.split()
        context = cli.train.make_context("main.py", ["CXR_author", net_name, str(tmp_path), str(data), *options])
        assert context.params["recipe"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "small"), "is 'small'"),
        (("--data", "other=CXR_author"), "is 'other=CXR_author'"),
        (("--data", "small=CXR_author:other"), "the name 'small' twice"),
        (("--only", "best"), "is 'best'"),
        (("--leave_out", "tall=small:groups.csv"), "is 'tall=small:groups.csv'"),
        (("--leave_out", "tall=small:absent.csv:tall"), "absent.csv"),
        (("--enrol", "3"), "--leave_out, which is not given"),
    ],
)
def test_other_words_are_refused(data, tmp_path, words, said):
    result = run(data, tmp_path, *words)
    assert result.exit_code == 2 and said in result.stderr
    with pytest.raises(click.BadParameter):
        quality.Data.parse("=CXR_author:x")


def test_jittered_copies_are_the_same_each_time_and_not_the_images(data, tmp_path):
    split = read_split("CXR_author", data, "test", selection=Selection())
    write_jittered(split, tmp_path / "one")
    write_jittered(split, tmp_path / "two")
    copies = read_split("CXR_author", tmp_path / "one", "test", selection=Selection())
    assert copies.labels == split.labels
    for path in sorted((tmp_path / "one").rglob("*.png")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_each_image_is_jittered_in_its_own_way_and_not_much():
    film = phantom.draw_radiograph(np.random.default_rng(0), size=64, abnormal=False)
    torch.manual_seed(0)
    found = jitter(torch.from_numpy(np.ascontiguousarray(film))[None, None].repeat(4, 1, 1, 1)).float()
    assert len({one.sum().item() for one in found}) == 4
    for one in found:
        together = torch.corrcoef(torch.stack([one.flatten(), torch.from_numpy(film.astype(np.float32)).flatten()]))
        assert 0.5 < together[0, 1] < 0.9999
