"""The recipe `quick`: a run without training, of the memory of a frozen backbone."""

import shutil
from importlib.util import find_spec

import pytest
import torch
from ranks import fork_train
from running import SHORT, TINY, invoke, read_csv, read_lines, read_tar, score, stopped
from tiny_backbone import tiny_networks

from salad import Detector, cli
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.datasets import phantom
from salad.networks.efficientnet_lite0 import PACKAGE

QUICK = ["--recipe", "quick", "--isize", 64, "--batch_size", 4]


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny_networks():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=64, num_train=9, num_val=4, num_test=3)
    return root


def train_quick(xp, data, *options):
    """main.py with the recipe as it is, without a number of epochs."""
    result = invoke(cli.train, "CXR_author", "unet", xp, data, *TINY, *QUICK, *options)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    xp = tmp_path_factory.mktemp("run") / "xp"
    train_quick(xp, data)
    return xp


def test_a_run_makes_the_memory_and_nothing_else(run):
    assert sorted(path.name for path in run.glob("*.tar")) == ["last.tar", "model.tar", "model_round0.tar"]
    (line,) = read_lines(run / "metrics.jsonl")
    assert line["epoch"] == 0 and 0 <= line["val_auc"] <= 1 and "loss" not in line
    for path in run.glob("*.tar"):
        content = read_tar(path)
        assert content["model_state_dict"] == {} and content["head"] is None
        assert content["local_memories"]["backbone"]["rows"].shape == (16, 9, 6)
        assert len(content["val_normal_scores"]) == 4
    checkpoint = load_checkpoint(run / "model.tar")
    assert checkpoint.trained == checkpoint.held == frozenset() and checkpoint.net_name == "unet"


def test_no_network_is_built_and_no_weight_fetched(data, tmp_path, monkeypatch):
    monkeypatch.setattr("salad.networks.weights.load_trunk", lambda *_: pytest.fail("fetched"))
    monkeypatch.setattr("salad.build.build_network", lambda *_, **__: pytest.fail("built"))
    words = ["CXR_author", "CXR_resnet18", tmp_path, data, *TINY, *QUICK]
    assert invoke(cli.train, *words).exit_code == 0
    assert load_checkpoint(tmp_path / "last.tar").net_name == "CXR_resnet18"


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="needs the extra pretrained")
def test_two_processes_make_the_memory_of_one(data, tmp_path):
    for size in (1, 2):
        ended = fork_train(tmp_path / str(size), data, *QUICK, "--n_epochs", 0, size=size)
        assert ended.statuses == [0] * size, ended.err
    one, two = (read_tar(tmp_path / name / "model.tar")["local_memories"]["backbone"]["rows"] for name in "12")
    torch.testing.assert_close(two, one, atol=2e-2, rtol=1e-2)


@pytest.mark.slow
def test_every_command_scores_with_it_and_agrees(run, data, tmp_path):
    expected = sorted(score(tmp_path / "xp", data, "--load_model", run / "model.tar", "--heatmaps", tmp_path / "maps"))
    assert len(set(expected)) == 6 and len([*(tmp_path / "maps").rglob("*.png")]) == 6
    out = tmp_path / "scores.csv"
    command = ["predict", "--load_model", run / "model.tar", "--device", "cpu", "--out", out, data / "test"]
    assert invoke(main, *command).exit_code == 0
    assert sorted(float(row["score"]) for row in read_csv(out)) == pytest.approx(expected, abs=1e-5)
    exported = tmp_path / "model.pt2"
    result = invoke(main, "export", run / "model.tar", "--format", "torch", "--out", exported)
    assert result.exit_code == 0 and "differs from predict" in result.stdout


def test_the_report_names_the_backbone_and_shows_no_training(run, data, tmp_path):
    words = ["CXR_author", "unet", tmp_path, data, *TINY, "--load_model", run / "model.tar", "--report"]
    assert invoke(cli.test, *words).exit_code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "scored by efficientnet_lite0" in page and "scored by unet" not in page
    assert "Trained to" not in page and '"history": null' in page
    for text in (page, (tmp_path / "model_card.md").read_text(encoding="utf-8")):
        assert "no better than chance" in text  # its maps


def test_a_detector_is_fitted_explains_and_is_saved(data, tmp_path):
    films = sorted((data / "train").rglob("*.png"))
    detector = Detector(recipe="quick", isize=64, device="cpu", n_jobs_dataloader=0, min_normals=1).fit(films)
    detector.save(tmp_path / "model.tar")
    again = Detector.load(tmp_path / "model.tar", device="cpu", min_normals=1)
    test = sorted((data / "test").rglob("*.png"))
    assert again.score(test) == pytest.approx(detector.score(test), abs=1e-5)
    assert again.threshold == detector.threshold is not None
    assert again.explain(test[0]).score_map is not None
    assert not any("hardly trained" in line or "no loss" in line for line in again.warnings)


def test_two_runs_are_told_apart_though_neither_has_weights(run, data, tmp_path):
    shutil.copytree(data, tmp_path / "fewer")
    next((tmp_path / "fewer/train").rglob("*.png")).unlink()
    train_quick(tmp_path / "xp", tmp_path / "fewer")
    paths = [run / "model.tar", run / "model_round0.tar", tmp_path / "xp/model.tar"]
    one, same, other = (load_checkpoint(path).digest() for path in paths)
    assert one == same != other


def test_a_finished_run_is_resumed_and_stays_as_it_is(run, data, tmp_path):
    xp = tmp_path / "xp"
    train_quick(xp, data)
    before = read_lines(xp / "metrics.jsonl")
    result = invoke(cli.train, "CXR_author", "unet", xp, data, "--resume")
    assert result.exit_code == 0, result.stderr
    assert read_lines(xp / "metrics.jsonl") == before
    line = stopped(invoke(cli.train, "CXR_author", "unet", xp, data, "--resume", "--n_epochs", 3))
    assert "--n_epochs is 3" in line and "has 0: it has no network to train" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--score", "local"], "--score local needs one"),
        (["--score", "fused", "--fuse", "backbone", "--fuse", "knn"], "--score knn needs one"),
        (["--pre_training_epochs", 2], "--pre_training_epochs: leave them out"),
        (["--load_model", "RUN"], "leave --load_model out"),
    ],
)
def test_what_needs_a_training_is_refused(run, data, tmp_path, options, said):
    words = [run / "model.tar" if word == "RUN" else word for word in options]
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, *TINY, *QUICK, *words))
    assert "--n_epochs is 0" in line and said in line


def test_other_scores_and_a_training_from_it_are_refused(run, data, tmp_path):
    words = ["CXR_author", "unet", tmp_path / "xp", data, *TINY]
    line = stopped(invoke(cli.test, *words, "--load_model", run / "model.tar", "--score", "local"))
    assert "--score local needs the patch features" in line
    line = stopped(invoke(cli.train, *words, *SHORT, "--load_model", run / "model.tar"))
    assert "holds no weights of a network" in line


def test_without_a_backbone_nothing_is_left_to_do(data, tmp_path):
    words = ["CXR_author", "unet", tmp_path / "xp", data, *TINY, "--n_epochs", 0, "--score", "backbone"]
    assert "needs a --backbone" in stopped(invoke(cli.train, *words))
