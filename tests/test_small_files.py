"""Files for scoring: what they leave out of last.tar, and that they score as it does."""

import pickle
import shutil

import pytest
import torch
from running import TINY, invoke, read_csv, read_tar, score, stopped, tiny_unet, train

from salad import Detector, cli
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.datasets import phantom
from salad.losses import ANOMALY_HEAD
from salad.networks.unet import UNet

STRONG = ["--recipe", "strong", "--n_epochs", 1, "--batch_size", 4]
STAGES = {"input", "e1", "e2", "e3"}
RUN_STATE = {"optimizer", "schedule", "scaler", "rng", "tally"}
MIB = 2**20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=64, num_train=8, num_val=3, num_test=3)
    shutil.rmtree(root / "val/1.abnormal")  # so that all files are of the last epoch
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of the recipe `strong` with the tiny network."""
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data, *STRONG)
    return xp


@pytest.mark.slow
def test_model_tar_of_strong_has_a_few_megabytes_and_scores_as_last_tar_does(data, tmp_path):
    xp = tmp_path / "xp"
    words = ["CXR_author", "unet", xp, data, "--n_jobs_dataloader", 0, "--device", "cpu", "--batch_size", 4]
    result = invoke(cli.train, *words, *STRONG, tiny=False)
    assert result.exit_code == 0, result.stderr
    assert (xp / "model.tar").stat().st_size < 10 * MIB < 100 * MIB < (xp / "last.tar").stat().st_size

    def scores(path):
        out = tmp_path / f"{path.stem}.csv"
        command = ["predict", "--load_model", path, "--device", "cpu", "--out", out, data / "test"]
        assert invoke(main, *command, tiny=False).exit_code == 0
        return [float(row["score"]) for row in read_csv(out)]

    assert scores(xp / "model.tar") == pytest.approx(scores(xp / "last.tar"), rel=1e-5, abs=1e-5)


def test_what_scoring_needs_is_kept_and_nothing_else(run):
    last = read_tar(run / "last.tar")
    assert last.keys() >= RUN_STATE and {name.split(".")[0] for name in last["model_state_dict"]} > STAGES
    for name in ("model.tar", "model_round0.tar"):
        held = read_tar(run / name)
        assert {name.split(".")[0] for name in held["model_state_dict"]} == STAGES
        assert not held.keys() & RUN_STATE
        assert held["memory_state_dict"]["memory"].shape == (0, 8) and len(held["row_labels"]) == 8
        assert all(torch.equal(held["head"][name], tensor) for name, tensor in last["head"].items())
        assert load_checkpoint(run / name).held == {ANOMALY_HEAD}


def test_a_score_of_what_is_left_out_is_refused_in_one_line(run, data, tmp_path):
    for name, part in (("knn", "embeddings"), ("svdd", "embeddings"), ("reconstruction", "reconstruction")):
        words = ["CXR_author", "unet", tmp_path / "xp", data, *TINY, "--load_model", run / "model.tar"]
        line = stopped(invoke(cli.test, *words, "--score", name))
        assert f"--score {name} needs the {part}" in line and "model.tar" in line and "above 0" in line
    assert len(score(tmp_path / "last", data, "--load_model", run / "last.tar", "--score", "knn")) == 6


def test_the_untrained_part_that_a_run_scores_by_is_kept(data, tmp_path):
    off = ["--w_rec", 0, "--w_contrast", 0, "--w_svdd", 0, "--w_syn", 1]
    train(tmp_path / "xp", data, *off, "--score", "knn")
    assert len(score(tmp_path / "xp", data)) == 6


def test_a_detector_scores_explains_and_is_copied(run, data, tmp_path):
    films = sorted((data / "test").rglob("*.png"))
    with tiny_unet():
        detector = Detector.load(run / "model.tar", device="cpu")
        expected = Detector.load(run / "last.tar", device="cpu").score(films)
        detector.save(tmp_path / "saved.tar")
        copies = [pickle.loads(pickle.dumps(detector)), Detector.load(tmp_path / "saved.tar", device="cpu")]
        for found in (detector, *copies):
            assert found.score(films) == pytest.approx(expected, abs=1e-5)
        explanation = copies[1].explain(films[0])
        Detector.load(run / "last.tar", device="cpu").save(tmp_path / "from_last.tar")
    assert explanation.recon is None and explanation.score_map is not None
    assert len(explanation.neighbours) == 5 and all(near.pixels is not None for near in explanation.neighbours)
    held = [read_tar(path)["model_state_dict"].keys() for path in (run / "model.tar", tmp_path / "from_last.tar")]
    assert held[0] == held[1]


def test_an_export_of_a_small_file_leaves_the_same_out(run, tmp_path):
    pytest.importorskip("safetensors")
    from safetensors import safe_open

    out = tmp_path / "model.safetensors"
    assert invoke(main, "export", run / "model.tar", "--format", "safetensors", "--out", out).exit_code == 0
    with safe_open(out, framework="pt") as file:
        assert {name.split(".")[1] for name in file.keys() if name.startswith("network.")} == STAGES  # noqa: SIM118


def test_a_training_starts_from_the_weights_that_are_there_and_says_what_is_missing(run, data, tmp_path):
    xp = tmp_path / "xp"
    train(xp, data, "--load_model", run / "model.tar", "--lr", 1e-12)
    start, found = (read_tar(path)["model_state_dict"] for path in (run / "model.tar", xp / "last.tar"))
    for name, tensor in start.items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    log = (xp / "log.txt").read_text(encoding="utf-8")
    assert "model.tar lacks embeddings and reconstruction, which start at random" in log


def test_scoring_builds_no_module_that_it_does_not_use(run, monkeypatch):
    forwards = []
    monkeypatch.setattr(UNet, "load_state_dict", lambda self, state, **_: forwards.append({*state}))
    with tiny_unet():
        detector = Detector.load(run / "model.tar", device="cpu")
    network = detector.scorer_.model.network
    assert {name for name, _ in network.named_children()} == STAGES
    assert forwards == [{*network.state_dict()}]


def test_models_are_told_apart_by_what_they_hold(run, data, tmp_path):
    other = tmp_path / "other"
    train(other, data, *STRONG, "--seed", 3)
    digests = {load_checkpoint(path / "model.tar").digest() for path in (run, other)}
    assert len(digests) == 2 and load_checkpoint(run / "model_round0.tar").digest() in digests
