import shutil

import numpy as np
import pytest
from running import TINY, invoke, read_csv, read_json, read_tar, score, stopped, train

from salad import cli
from salad.datasets import phantom
from salad.evaluation.calibration import Calibration
from salad.evaluation.rates import Confusion


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve normal films to train on, three of each class to validate with, four of each to score."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=12, num_val=3, num_test=4)
    return root


@pytest.fixture
def data_without_val(data, tmp_path):
    shutil.copytree(data, tmp_path / "without_val", ignore=shutil.ignore_patterns("val"))
    return tmp_path / "without_val"


@pytest.fixture
def run(data, tmp_path):
    train(tmp_path / "run", data)
    return tmp_path / "run"


def test_the_checkpoint_holds_the_scores_of_validation_normals(run, data):
    held = read_tar(run / "model.tar")
    names = sorted(path.name for path in (data / "val/0.normal").iterdir())
    assert held["val_normal_scores"].shape == (len(names),) and held["k"] == 12
    score(run, data)
    threshold = read_json(run / "metrics.json")["at_threshold"]
    assert threshold["num_val_normals"] == len(names)
    assert threshold["threshold"] == held["val_normal_scores"].max().item()


@pytest.mark.parametrize("options", [("--score", "weighted"), ("--score", "reconstruction"), ("--k", 3)])
def test_another_score_is_calibrated_on_val(run, data, tmp_path, options):
    swapped = shutil.copytree(data, tmp_path / "swapped")  # the validation normals are what is scored
    shutil.rmtree(swapped / "test")
    shutil.copytree(swapped / "val", swapped / "test")
    own = score(tmp_path / "own", swapped, "--load_model", run / "model.tar", *options)
    score(tmp_path / "xp", data, "--load_model", run / "model.tar", *options, "--specificity", 0.5)
    metrics = read_json(tmp_path / "xp/metrics.json")
    normal = [own[i] for i, row in enumerate(read_csv(tmp_path / "own/scores.csv")) if row["label"] == "0"]
    assert metrics["at_threshold"]["threshold"] == pytest.approx(Calibration.of(normal).threshold(0.5), rel=1e-5)
    assert metrics["at_threshold"]["specificity_wanted"] == 0.5


def test_the_threshold_does_not_see_the_test_images(run, data, tmp_path):
    score(run, data)
    before = read_json(run / "metrics.json")["at_threshold"]
    fewer = shutil.copytree(data, tmp_path / "fewer")
    sorted((fewer / "test/1.abnormal").iterdir())[0].unlink()
    score(run, fewer)
    after = read_json(run / "metrics.json")["at_threshold"]
    assert before["threshold"] == after["threshold"]
    assert sum(after["confusion"].values()) == sum(before["confusion"].values()) - 1


def test_scores_csv_and_metrics_agree(run, data):
    score(run, data)
    rows, metrics = read_csv(run / "scores.csv"), read_json(run / "metrics.json")
    labels, scores = [int(row["label"]) for row in rows], [float(row["score"]) for row in rows]
    found = metrics["at_threshold"]
    assert found["confusion"] == vars(Confusion.at(found["threshold"], labels, scores))
    of_normal = [float(row["percentile"]) for row in rows if row["label"] == "0"]
    assert found["mean_percentile_of_normals"] == pytest.approx(np.mean(of_normal), abs=1e-2)
    held = Calibration.of(read_tar(run / "model.tar")["val_normal_scores"].numpy())
    assert [float(row["percentile"]) for row in rows] == held.percentile(scores).round(3).tolist()


def test_normal_images_alone_calibrate(data, data_without_val, tmp_path):
    shutil.copytree(data / "val/0.normal", data_without_val / "val/0.normal")
    lines = train(tmp_path, data_without_val)
    assert [line["val_auc"] for line in lines] == [None, None]
    score(tmp_path, data_without_val)
    assert read_json(tmp_path / "metrics.json")["at_threshold"]["num_val_normals"] == 3


def test_without_val_there_is_no_threshold(data_without_val, tmp_path):
    train(tmp_path, data_without_val)
    score(tmp_path, data_without_val)
    assert read_json(tmp_path / "metrics.json")["at_threshold"] is None
    assert {row["percentile"] for row in read_csv(tmp_path / "scores.csv")} == {""}
    assert "no threshold and no percentiles: both need normal images in val/" in (tmp_path / "log.txt").read_text()


def test_a_test_set_of_one_class_still_has_percentiles(run, data, tmp_path):
    normal = shutil.copytree(data, tmp_path / "normal")
    shutil.rmtree(normal / "test/1.abnormal")
    result = invoke(cli.test, "CXR_author", "unet", run, normal, "--isize", 64, "--n_jobs_dataloader", 0)
    assert result.exit_code == 0 and "undefined" in result.stdout
    metrics = read_json(run / "metrics.json")
    assert metrics["auc"] is metrics["average_precision"] is metrics["at_threshold"]["sensitivity"] is None
    assert 0 <= metrics["at_threshold"]["specificity"]["value"] <= 1


def test_calibration_scores_are_those_of_the_saved_weights(run, data, tmp_path):
    """The rows and the scores in model.tar are of one moment: scoring val/ again gives the same."""
    held = read_tar(run / "model.tar")
    swapped = shutil.copytree(data, tmp_path / "swapped")
    shutil.rmtree(swapped / "test")
    shutil.copytree(swapped / "val", swapped / "test")
    again = score(tmp_path / "xp", swapped, "--load_model", run / "model.tar")
    normal = [
        value for value, row in zip(again, read_csv(tmp_path / "xp/scores.csv"), strict=True) if row["label"] == "0"
    ]
    assert held["val_normal_scores"].tolist() == pytest.approx(sorted(normal), rel=1e-5)


def test_a_full_disk_leaves_the_former_scores(run, data, small_disk, fill):
    xp = small_disk / "xp"
    shutil.copytree(run, xp)
    score(xp, data)
    before = {path.name: path.read_bytes() for path in xp.iterdir() if path.name != "log.txt"}
    fill()
    words = ["CXR_author", "unet", xp, data, *TINY, "--score", "svdd", "--overwrite"]
    assert "scores.csv: cannot be written (No space left" in stopped(invoke(cli.test, *words), status=1)
    assert {path.name: path.read_bytes() for path in xp.iterdir() if path.name != "log.txt"} == before
