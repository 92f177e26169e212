"""main.py, then test.py, end to end.

Two runs use the real scripts and networks in processes of their own. All others run the same commands in this
process with a `unet` of a few channels, so that a whole training takes half a second.
"""

import functools
import json
import math
import re
import shutil
import subprocess
import sys
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from running import (
    CPU,
    ONE_THREAD,
    REPOSITORY,
    SHORT,
    TINY,
    invoke,
    place,
    read_csv,
    read_json,
    read_lines,
    read_tar,
    score,
    stopped,
    tiny_unet,
    train,
    validated,
    without_timings,
)
from sklearn.metrics import roc_auc_score
from torchvision.models import ResNet18_Weights

import salad.training.trainer
import salad.training.validation
from salad import cli
from salad.build import RunContext
from salad.checkpoint import load_checkpoint
from salad.config import Config
from salad.datasets import phantom, read_split
from salad.distributed.team import SOLO
from salad.evaluation.metrics import Auc, auc_within
from salad.images.read import read_image
from salad.samples import Split
from salad.scores import knn
from salad.scoring import evaluate
from salad.scoring.evaluate import embed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 normal images to train on, 4 + 4 to validate, 6 + 6 to test."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=12, num_val=4, num_test=6)
    return root


@pytest.fixture
def data_without_val(data: Path, tmp_path: Path) -> Path:
    shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/val")
    return tmp_path / "data"


@pytest.fixture
def mixed_data(data: Path, tmp_path: Path) -> Path:
    """The same with 4 abnormal images in train/."""
    shutil.copytree(data, tmp_path / "mixed")
    shutil.copytree(data / "val/1.abnormal", tmp_path / "mixed/train/1.abnormal")
    return tmp_path / "mixed"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two rounds."""
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data)
    return xp


# The real scripts -----------------------------------------------------------------------------------------------


def script(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REPOSITORY / name, *map(str, words)],
        capture_output=True,
        text=True,
        env=ONE_THREAD,
        timeout=300,
    )


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in ("unet", "CXR_resnet18")]
)
def real(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What main.py and test.py leave behind; the checkpoints, 0.3 GB each, are read and deleted."""
    xp, net_name = tmp_path_factory.mktemp("real") / "xp", request.param
    isize = {"unet": 64, "CXR_resnet18": 16}[net_name]
    workers = ["--n_jobs_dataloader", 1]
    trained = script(
        "main.py", "CXR_author", net_name, xp, data, *SHORT, *workers, "--isize", isize, "--weights", "none"
    )
    tested = script("test.py", "CXR_author", net_name, xp, data, *TINY, *workers, "--isize", isize)
    files = {path.name for path in xp.iterdir()}
    progress = {path.name: place(path) for path in xp.glob("*.tar")}
    for path in xp.glob("*.tar"):
        path.unlink()
    return SimpleNamespace(
        xp=xp, net_name=net_name, isize=isize, trained=trained, tested=tested, files=files, progress=progress
    )


def test_both_scripts_succeed_and_write_their_files(real):
    assert real.trained.returncode == 0, real.trained.stderr
    assert real.tested.returncode == 0, real.tested.stderr
    models = {"model_round0.tar", "model_round1.tar", "model.tar", "last.tar"}
    report = {"report.html", "figures", "model_card.md"}
    assert real.files == models | report | {"config.json", "metrics.jsonl", "log.txt", "scores.csv", "metrics.json"}


def test_stdout_holds_the_auc_line_and_nothing_else(real):
    assert real.trained.stdout == ""
    assert re.fullmatch(r"AUC score = [01]\.\d{5}\n", real.tested.stdout)


def test_bars_and_tracebacks_stay_out_of_a_pipe(real):
    for stderr in (real.trained.stderr, real.tested.stderr):
        assert stderr.strip()
        assert "\r" not in stderr and "it/s" not in stderr and "%|" not in stderr
        assert "Traceback" not in stderr and "Warning" not in stderr


def test_scores_csv_gives_the_printed_auc(real, data):
    rows = read_csv(real.xp / "scores.csv")
    assert list(rows[0]) == ["path", "label", "score", "percentile"]
    assert [row["path"] for row in rows] == [p.relative_to(data).as_posix() for p in sorted(data.glob("test/*/*.png"))]
    assert [int(row["label"]) for row in rows] == ["1.abnormal" in row["path"] for row in rows]
    found = roc_auc_score([int(row["label"]) for row in rows], [float(row["score"]) for row in rows])
    assert real.tested.stdout == f"AUC score = {found:.5f}\n"
    assert read_json(real.xp / "metrics.json")["auc"]["value"] == pytest.approx(found, abs=1e-12)


def test_metrics_json_has_intervals_and_grey_level_baselines(real, data):
    metrics = read_json(real.xp / "metrics.json")
    baselines = metrics["baseline_auc"]
    for found in (metrics["auc"], *baselines.values()):
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert metrics["num_normal"] == metrics["num_abnormal"] == 6
    paths = [data / row["path"] for row in read_csv(real.xp / "scores.csv")]
    images = [read_image(path, isize=real.isize, resize="squash").astype(float) for path in paths]
    labels = [0] * 6 + [1] * 6
    assert baselines["image_mean"]["value"] == pytest.approx(roc_auc_score(labels, [i.mean() for i in images]))
    assert baselines["image_std"]["value"] == pytest.approx(roc_auc_score(labels, [i.std() for i in images]))
    edges = [i[:-2, 1:-1] + i[2:, 1:-1] + i[1:-1, :-2] + i[1:-1, 2:] - 4 * i[1:-1, 1:-1] for i in images]
    sharpness = [one.std() for one in edges]
    assert baselines["image_sharpness"]["value"] == pytest.approx(roc_auc_score(labels, sharpness))
    scores = [float(row["score"]) for row in read_csv(real.xp / "scores.csv")]
    assert metrics["auc_within_sharpness"] == auc_within(labels, scores, strata_of=sharpness).as_json()


def test_metrics_jsonl_has_one_object_an_epoch(real):
    lines = read_lines(real.xp / "metrics.jsonl")
    assert [(line["epoch"], line["round"]) for line in lines] == [(1, 0), (2, 1)]
    for line in lines:
        total = 0.5 * line["rec"] + line["aggregation"] + 0.5 * line["svdd"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
        assert line["lr"] == 1e-4
        assert line["seconds"] > 0 and line["images_per_second"] > 0
        assert 0 <= line["val_auc"] <= 1
    assert [line["num_anchors"] for line in lines] == [0, 12]


def test_model_tar_is_the_first_epoch_of_the_best_validation_auc(real):
    aucs = [line["val_auc"] for line in read_lines(real.xp / "metrics.jsonl")]
    assert real.progress["model.tar"]["epoch"] == 1 + aucs.index(max(aucs))
    assert [real.progress[f"model_round{number}.tar"]["round"] for number in (0, 1)] == [0, 1]


def test_config_json_and_log_record_the_run(real):
    config = read_json(real.xp / "config.json")
    assert config["net_name"] == real.net_name and config["isize"] == real.isize
    assert config["rep_dim"] == 8 and config["seed"] == 2
    log = (real.xp / "log.txt").read_text(encoding="utf-8")
    assert all(f"epoch {number}" in log for number in (1, 2))
    assert "AUC of image mean" in log  # test.py logs there too


# Seeds and workers ----------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_metrics_and_other_seeds_others(run, data, tmp_path):
    first = without_timings(read_lines(run / "metrics.jsonl"))
    assert without_timings(train(tmp_path / "again", data)) == first
    assert without_timings(train(tmp_path / "other", data, "--seed", 3)) != first


def test_seed_minus_one_is_drawn_recorded_and_repeatable(data, tmp_path):
    drawn = train(tmp_path / "drawn", data, "--seed", -1)
    seed = read_json(tmp_path / "drawn/config.json")["seed"]
    assert seed >= 0
    assert read_tar(tmp_path / "drawn/model.tar")["config"]["seed"] == seed
    assert without_timings(train(tmp_path / "again", data, "--seed", seed)) == without_timings(drawn)
    train(tmp_path / "second", data, "--seed", -1)
    assert read_json(tmp_path / "second/config.json")["seed"] != seed


def test_test_py_records_a_drawn_seed(run, data, tmp_path):
    score(tmp_path, data, "--load_model", run / "model.tar", "--seed", -1)
    assert read_json(tmp_path / "metrics.json")["seed"] >= 0


def test_workers_change_no_number(run, data, tmp_path):
    lines = train(tmp_path / "workers", data, "--n_jobs_dataloader", 2)
    assert without_timings(lines) == without_timings(read_lines(run / "metrics.jsonl"))


# Rounds, epochs, options ----------------------------------------------------------------------------------------


def test_views_multiply_the_memory_rows(data, tmp_path):
    lines = train(tmp_path, data, "--n_views", 2)
    content = read_tar(tmp_path / "model.tar")
    assert content["memory_state_dict"]["memory"].shape == (24, 8)
    assert content["row_labels"].tolist() == [0] * 24
    assert lines[-1]["num_anchors"] == 24 and math.isfinite(lines[-1]["loss"])
    assert len(score(tmp_path, data)) == 12


def test_without_contrast_there_is_one_round(data, tmp_path):
    lines = train(tmp_path, data, "--w_contrast", 0, "--n_epochs", 2)
    assert [line["round"] for line in lines] == [0, 0]
    assert all("aggregation" not in line and {"rec", "svdd"} <= line.keys() for line in lines)
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["last.tar", "model.tar", "model_round0.tar"]


def test_rounds_follow_the_select_rate(data, tmp_path):
    lines = train(tmp_path, data, "--ans_select_rate", 0.3)
    assert [line["round"] for line in lines] == [0, 1, 2, 3]
    assert [line["num_anchors"] for line in lines] == [0, 3, 7, 10]  # int(12 * 0.3 * round)


def test_pre_training_is_reconstruction_alone(data, tmp_path):
    lines = train(tmp_path, data, "--pre_training_epochs", 2)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["round"] for line in lines] == [None, None, 0, 1]
    for line in lines[:2]:
        assert "rec" in line and "aggregation" not in line and "svdd" not in line and line["val_auc"] is None
    assert all({"rec", "aggregation", "svdd"} <= line.keys() for line in lines[2:])


def test_milestones_count_over_the_whole_run(data, tmp_path):
    milestones = ["--lr_milestone", 2, "--lr_milestone", 5]
    lines = train(tmp_path, data, "--pre_training_epochs", 1, "--n_epochs", 3, "--lr", 0.01, *milestones)
    assert [line["lr"] for line in lines] == pytest.approx([1e-2] * 2 + [1e-3] * 3 + [1e-4] * 2)


@pytest.mark.slow
def test_soft_boundary_radius_is_a_quantile_after_ten_epochs(data, tmp_path, monkeypatch):
    seen, svdd_radius = [], salad.training.trainer.svdd_radius

    def spy(distances, *, nu):
        seen.append(distances.numpy())
        return svdd_radius(distances, nu=nu)

    monkeypatch.setattr(salad.training.trainer, "svdd_radius", spy)
    soft = ["--objective", "soft-boundary", "--nu", 0.25, "--w_contrast", 0]
    lines = train(tmp_path, data, *soft, "--n_epochs", 12, "--pre_training_epochs", 1)
    radii = [line["radius"] for line in lines]
    assert radii[:10] == [0] * 10  # one of pre-training and the first nine of training
    expected = [math.sqrt(np.quantile(distances, 0.75)) for distances in seen]
    assert radii[10:] == pytest.approx(expected, rel=1e-4) and min(radii[10:]) > 0
    assert lines[10]["svdd"] == pytest.approx(seen[0].mean() / 0.25, rel=1e-4)  # that epoch still had radius 0
    outside = np.maximum(0, seen[1] - radii[10] ** 2).mean() / 0.25
    assert lines[11]["svdd"] == pytest.approx(radii[10] ** 2 + outside, rel=1e-4)
    assert read_tar(tmp_path / "model_round0.tar")["svdd"]["radius"].item() == pytest.approx(radii[-1])


def test_phantom_is_written_where_data_path_is_empty(tmp_path, monkeypatch):
    few = functools.partial(phantom.write_phantom, size=32, num_train=6, num_val=2, num_test=3)
    monkeypatch.setattr(phantom, "write_phantom", few)
    root = tmp_path / "data"
    root.mkdir()
    (root / ".gitkeep").touch()
    result = invoke(cli.train, "CXR_phantom", "unet", tmp_path / "xp", root, *SHORT)
    assert result.exit_code == 0, result.stderr
    files = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    assert len(files) == 6 + 2 * 2 + 2 * 3
    result = invoke(cli.test, "CXR_phantom", "unet", tmp_path / "xp", root, *TINY)
    assert result.exit_code == 0 and result.stdout.startswith("AUC score = ")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.png")} == files  # not drawn anew


@pytest.mark.parametrize("name", ["knn", "weighted", "svdd", "reconstruction"])
def test_every_score_is_finite_and_named(run, data, tmp_path, name):
    scores = score(tmp_path, data, "--load_model", run / "model.tar", "--score", name, "--k", 5)
    assert len(set(scores)) > 1 and np.isfinite(scores).all()
    metrics = read_json(tmp_path / "metrics.json")
    assert (metrics["score"], metrics["k"]) == (name, 5 if name in ("knn", "weighted") else None)


# Normal and abnormal images -------------------------------------------------------------------------------------


def tiny_context(xp: Path, data: Path) -> RunContext:
    """The context of a run of the tiny network."""
    values = {"net_name": "unet", "xp_path": xp, "data_path": data, "isize": 64, "rep_dim": 8}
    return RunContext(config=Config.of({"dataset_name": "CXR_author", **values}), device=CPU)


def test_abnormal_training_images_are_left_out_and_counted(mixed_data, data, tmp_path):
    lines = train(tmp_path / "xp", mixed_data)
    assert read_tar(tmp_path / "xp/model.tar")["memory_state_dict"]["memory"].shape[0] == 12
    assert "4 abnormal images left out" in (tmp_path / "xp/log.txt").read_text(encoding="utf-8")
    assert without_timings(lines) == without_timings(train(tmp_path / "clean", data))


def test_validation_scores_against_normal_rows_only(mixed_data, tmp_path, monkeypatch):
    seen, score_split = [], salad.training.validation.score_split

    def spy(model, split, **options):
        seen.append(len(model.normals.rows))
        return score_split(model, split, **options)

    monkeypatch.setattr(salad.training.validation, "score_split", spy)
    train(tmp_path, mixed_data, "--train_on", "all")
    assert seen == [12, 12]  # of 16 rows, in two epochs


def test_train_on_all_keeps_abnormal_rows_but_scores_against_normal_ones(mixed_data, tmp_path):
    train(tmp_path, mixed_data, "--train_on", "all", "--lr", 0.01)
    checkpoint = load_checkpoint(tmp_path / "model.tar")
    assert checkpoint.row_labels.tolist() == [0] * 12 + [1] * 4
    context = tiny_context(tmp_path, mixed_data)
    with tiny_unet():
        network = context.start_network(checkpoint)
    test = context.scan({"test": read_split("CXR_author", mixed_data, "test")})["test"]
    z = embed(network, context.loader(test), CPU)
    rows = checkpoint.bank.rows
    against_normal = knn.knn_angle(z, rows[:12], k=12).tolist()
    assert score(tmp_path, mixed_data, "--k", 12) == pytest.approx(against_normal, abs=1e-6)
    assert against_normal != pytest.approx(knn.knn_angle(z, rows, k=12).tolist(), abs=1e-6)


def test_best_validation_auc_picks_model_tar(data, tmp_path, monkeypatch):
    aucs = iter([0.6, 0.9, 0.7, 0.9])
    monkeypatch.setattr(salad.training.trainer.Trainer, "validate", lambda self: validated(Auc(next(aucs), 0.0, 1.0)))
    lines = train(tmp_path, data, "--n_epochs", 2)
    assert [line["val_auc"] for line in lines] == [0.6, 0.9, 0.7, 0.9]
    assert place(tmp_path / "model.tar") == {"round": 0, "epoch": 2}
    assert place(tmp_path / "model_round1.tar") == {"round": 1, "epoch": 4}


@pytest.mark.parametrize("keep", [None, "0.normal"])
def test_without_both_classes_in_val_the_last_round_is_model_tar(data, data_without_val, tmp_path, keep):
    if keep:
        shutil.copytree(data / "val" / keep, data_without_val / "val" / keep)
    lines = train(tmp_path / "xp", data_without_val)
    assert all(line["val_auc"] is None for line in lines)
    model, last = (read_tar(tmp_path / "xp" / name) for name in ("model.tar", "model_round1.tar"))
    assert (
        place(tmp_path / "xp" / "model.tar") == place(tmp_path / "xp" / "model_round1.tar") == {"round": 1, "epoch": 2}
    )
    torch.testing.assert_close(model["model_state_dict"], last["model_state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(model["memory_state_dict"], last["memory_state_dict"], rtol=0, atol=0)


def test_a_folder_named_valid_validates_as_well(run, data, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    (root / "val").rename(root / "valid")
    assert without_timings(train(tmp_path / "xp", root)) == without_timings(read_lines(run / "metrics.jsonl"))


TRAP = """
import os, sys
import salad.training.trainer, salad.networks.unet
from salad import cli
salad.networks.unet.WIDTHS = (4, 4, 4, 4, 4, 4, 8)
program, forbidden, *words = sys.argv[1:]

def trap(event, args):
    if event in ("open", "os.listdir", "os.scandir") and str(args[0]).startswith(forbidden):
        os.write(2, f"trapped: {event} {args[0]}".encode())
        os._exit(97)

sys.addaudithook(trap)
getattr(cli, program)(words)
"""


def trapped(program: str, data: Path, xp: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """Run a program that dies as soon as it lists or opens anything in test/."""
    words = map(str, [program, data / "test", "CXR_author", "unet", xp, data, *options])
    return subprocess.run(
        [sys.executable, "-c", TRAP, *words], capture_output=True, text=True, cwd=REPOSITORY, env=ONE_THREAD
    )


@pytest.mark.slow
def test_training_never_reads_the_test_folder(data, tmp_path):
    result = trapped("train", data, tmp_path, *SHORT)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "model.tar").exists()


@pytest.mark.slow
def test_the_trap_for_readers_of_the_test_folder_works(run, data, tmp_path):
    result = trapped("test", data, tmp_path, *TINY, "--load_model", run / "model.tar")
    assert result.returncode == 97 and "trapped: " in result.stderr


# Starting from files --------------------------------------------------------------------------------------------


def test_load_model_starts_from_the_weights_and_fills_the_memory_by_a_pass(run, data, tmp_path):
    hold = ["--lr", 1e-12, "--w_contrast", 0, "--npc_momentum", 0.999]  # what it starts from is what is left
    train(tmp_path, data, "--load_model", run / "model.tar", *hold)
    start, found = load_checkpoint(run / "model.tar"), load_checkpoint(tmp_path / "model_round0.tar")
    for name, tensor in start.model_state.items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(found.model_state[name], tensor, rtol=0, atol=1e-6)
    context = tiny_context(tmp_path, data)
    with tiny_unet():
        network = context.start_network(start)
    split = context.scan({"train": read_split("CXR_author", data, "train")})["train"]
    z = embed(network, context.loader(split), CPU)
    assert (found.bank.rows * z).sum(dim=1).min() > 0.999


def test_load_config_fills_in_what_is_not_typed(data, tmp_path):
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"lr": 0.003, "n_epochs": 3, "augment": "flip", "lr_milestone": [1]}))
    lines = train(tmp_path / "xp", data, "--load_config", file)
    config = read_json(tmp_path / "xp/config.json")
    assert (config["lr"], config["augment"], config["lr_milestone"]) == (0.003, "flip", [1])
    assert config["n_epochs"] == 1  # typed
    assert [line["lr"] for line in lines] == pytest.approx([0.003, 0.0003])


@pytest.mark.slow
def test_config_json_repeats_a_run_elsewhere(run, data, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    words = ["CXR_author", "unet", tmp_path / "xp", data, "--load_config", run / "config.json"]
    assert invoke(cli.train, *words).exit_code == 0
    assert without_timings(read_lines(tmp_path / "xp/metrics.jsonl")) == without_timings(
        read_lines(run / "metrics.jsonl")
    )
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


@pytest.mark.slow
def test_config_json_of_a_fine_tuned_run_scores_that_run(run, data, tmp_path):
    xp = tmp_path / "tuned"
    train(xp, data, "--load_model", run / "model.tar", "--lr", 0.1)
    expected = score(xp, data)
    assert score(xp, data, "--load_config", xp / "config.json") == pytest.approx(expected, abs=1e-6)


def test_unfetched_imagenet_weights_warn_and_are_recorded(data_without_val, tmp_path, monkeypatch):
    def no_network(self, **_):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", no_network)
    monkeypatch.setattr(salad.training.state, "save_checkpoint", lambda paths, checkpoint: None)
    options = [*SHORT, "--isize", 16, "--w_contrast", 0]
    result = invoke(cli.train, "CXR_author", "CXR_resnet18", tmp_path / "xp", data_without_val, *options)
    assert result.exit_code == 0, result.stderr
    assert "no route to host" in result.stderr and "--weights" in result.stderr
    assert read_json(tmp_path / "xp/config.json")["run"]["weights_loaded"] == "none"


# Small batches --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("net_name", "isize"), [("unet", 64), ("CXR_resnet18", 16)])
def test_batches_of_one_train_at_the_smallest_size(data_without_val, tmp_path, monkeypatch, net_name, isize):
    monkeypatch.setattr(salad.training.state, "save_checkpoint", lambda paths, checkpoint: None)
    for path in sorted(data_without_val.glob("train/*/*.png"))[3:]:
        path.unlink()
    options = [*SHORT, "--isize", isize, "--batch_size", 1, "--ans_size", 2, "--weights", "none"]
    result = invoke(cli.train, "CXR_author", net_name, tmp_path / "xp", data_without_val, *options, tiny=False)
    assert result.exit_code == 0, result.stderr
    lines = read_lines(tmp_path / "xp/metrics.jsonl")
    assert [line["num_anchors"] for line in lines] == [0, 3]
    assert all(math.isfinite(line["loss"]) for line in lines)


def test_no_batch_is_a_rest_of_one(data, tmp_path, monkeypatch):
    sizes, step = [], salad.training.trainer.Trainer.step

    def spy(self, batch, **options):
        sizes.append(len(batch.index))
        return step(self, batch, **options)

    monkeypatch.setattr(salad.training.trainer.Trainer, "step", spy)
    train(tmp_path, data, "--batch_size", 11, "--w_contrast", 0)
    assert sorted(sizes) == [6, 6]


# Runs that go wrong ---------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(data, tmp_path, monkeypatch):
    steps, step, loss_terms = [], salad.training.trainer.Trainer.step, salad.training.trainer.Trainer.loss_terms

    def spy(self, batch, **options):
        steps.append([self.train_split.samples[i].name for i in batch.index.tolist()])
        return step(self, batch, **options)

    def fourth_is_nan(self, inputs):
        terms = loss_terms(self, inputs)
        return {**terms, "rec": terms["rec"] * math.nan} if len(steps) == 4 else terms

    monkeypatch.setattr(salad.training.trainer.Trainer, "step", spy)
    monkeypatch.setattr(salad.training.trainer.Trainer, "loss_terms", fourth_is_nan)
    result = invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT)
    line = stopped(result, status=1)
    assert len(steps) == 4 and all(name in line for name in steps[3])  # the second batch of round 1
    assert not any(name in line for name in steps[2])
    assert "nan" in line
    assert [entry["epoch"] for entry in read_lines(tmp_path / "metrics.jsonl")] == [1]
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["last.tar", "model.tar", "model_round0.tar"]
    assert place(tmp_path / "model_round0.tar") == {"round": 0, "epoch": 1}
    assert np.isfinite(score(tmp_path, data)).all()


@pytest.mark.parametrize("with_val", [True, False])
def test_an_exploding_learning_rate_ends_in_a_message_and_saves_no_broken_weights(
    data, data_without_val, tmp_path, with_val
):
    options = [*SHORT, "--batch_size", 12, "--lr", 1e38]  # one step an epoch: its loss is finite, its weights are not
    result = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data if with_val else data_without_val, *options)
    stopped(result, status=1)
    for path in (tmp_path / "xp").glob("*.tar"):
        assert np.isfinite(score(tmp_path / "scores", data, "--load_model", path)).all(), path.name


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_training_image_is_named(data, tmp_path, workers):
    root = shutil.copytree(data, tmp_path / "data")
    damaged = root / "train/0.normal/0003.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    result = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", root, *SHORT, "--n_jobs_dataloader", workers)
    assert "train/0.normal/0003.png" in stopped(result)


@pytest.mark.parametrize(
    ("config", "num_doubts"),
    [
        ({"dataset_name": "CXR_author", "normal_class": None}, 1),
        ({"dataset_name": "CXR_author", "normal_class": "a"}, 0),  # asked for
        ({"dataset_name": "Table", "normal_class": None}, 0),
    ],
)
def test_a_class_that_is_normal_because_it_is_first_is_said_when_it_is_tested(monkeypatch, config, num_doubts):
    split = Split(samples=[], normal_class="a", classes=("a", "b"))
    monkeypatch.setattr(evaluate, "read_split", lambda *_, **__: split)
    monkeypatch.setattr(evaluate, "compare_with_training", lambda *_, **__: None)
    data = SimpleNamespace(dataset_name="CXR_author", data_path=Path(), selection=None)
    context = SimpleNamespace(config=SimpleNamespace(data=data), team=SOLO)
    checkpoint = SimpleNamespace(normal_class="a", config=config, path=Path())
    doubts = evaluate.read_test(context, checkpoint).doubts
    assert len(doubts) == num_doubts and all("a counts as normal only because it is first" in doubt for doubt in doubts)
