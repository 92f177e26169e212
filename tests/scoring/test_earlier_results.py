"""Results of an earlier test are kept unless the new ones are of the same model, images and options."""

import json
import re
import shutil

import pytest
from PIL import Image, ImageOps
from running import TINY, invoke, read_json, refuse_test, score, stopped, train

from salad import cli
from salad.datasets import phantom
from salad.errors import StorageError

WRITTEN = ("scores.csv", "metrics.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six normal films to train on, three of each class to validate and two of each to score."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=6, num_val=3, num_test=2)
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data)
    return xp


@pytest.fixture
def xp(trained, data, tmp_path):
    """A run with its results."""
    shutil.copytree(trained, tmp_path / "xp")
    score(tmp_path / "xp", data)
    return tmp_path / "xp"


def contents(folder):
    return [(folder / name).read_bytes() for name in WRITTEN]


def test_the_same_again_goes_through(xp, data):
    assert read_json(xp / "metrics.json")["made_from"]["score"] == "knn"
    result = invoke(cli.test, "CXR_author", "unet", xp, data, *TINY)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--score", "svdd"], "--score was knn, now svdd"),
        (["--k", 3], "--k was the default, now 3"),
        (["--specificity", 0.9], "--specificity was 0.95, now 0.9"),
        (["--min_normals", 1], "--min_normals was 3, now 1"),
    ],
)
def test_results_with_other_options_are_replaced_with_a_warning(xp, data, tmp_path, options, said):
    before = contents(xp)
    score_out = invoke(cli.test, "CXR_author", "unet", xp, data, *TINY, *options, "--out", tmp_path / "new/folder")
    assert score_out.exit_code == 0, score_out.stderr
    assert contents(xp) == before and contents(tmp_path / "new/folder") != before
    (xp / "report.html").write_text("of knn")
    replaced = invoke(cli.test, "CXR_author", "unet", xp, data, *TINY, *options, "--no_report")
    assert replaced.exit_code == 0 and f"results of an earlier test are replaced: {said}\n" in replaced.stderr
    assert not (xp / "report.html").exists()
    assert read_json(xp / "metrics.json")["made_from"] == read_json(tmp_path / "new/folder/metrics.json")["made_from"]


def test_other_images_and_another_model_do_not_replace_results(xp, data, tmp_path):
    before = contents(xp)
    other = shutil.copytree(data, tmp_path / "data")
    next((other / "test/0.normal").iterdir()).unlink()
    assert re.search("the data set was CXR_author .*/data, now CXR_author .*/data; --out", refuse_test(xp, other))
    mirrored = shutil.copytree(data, tmp_path / "mirrored")
    for path in (mirrored / "test").rglob("*.png"):
        ImageOps.mirror(Image.open(path)).save(path)
    assert "holds results of another test: the data set was " in refuse_test(xp, mirrored)
    train(tmp_path / "other", data, "--seed", 5)
    assert "the model was " in refuse_test(xp, data, "--load_model", tmp_path / "other/model.tar")
    assert contents(xp) == before
    moved = shutil.copytree(data, tmp_path / "moved")
    assert invoke(cli.test, "CXR_author", "unet", xp, moved, *TINY).exit_code == 0  # the same images elsewhere
    next((moved / "test/0.normal").iterdir()).unlink()
    result = invoke(cli.test, "CXR_author", "unet", xp, moved, *TINY)  # the same data set has changed
    assert result.exit_code == 0 and "are replaced: the images were 4 images" in result.stderr


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"made_from": 1}', None])
def test_results_that_do_not_say_what_they_are_of_are_kept(xp, data, content):
    (xp / "metrics.json").unlink() if content is None else (xp / "metrics.json").write_text(content)
    assert "holds results (scores.csv) that do not say what they are of" in refuse_test(xp, data)
    assert invoke(cli.test, "CXR_author", "unet", xp, data, *TINY, "--overwrite").exit_code == 0


def test_a_report_of_other_results_does_not_stay(xp, data):
    (xp / "report.html").write_text("of knn")
    score(xp, data)
    assert not (xp / "report.html").exists()


def test_heatmaps_are_not_mixed_with_other_files(xp, data, tmp_path, caplog):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/photo.png").touch()
    assert "--heatmaps" in (message := refuse_test(xp, data, "--heatmaps", tmp_path / "maps"))
    assert "holds files already; give an empty folder" in message
    for _ in range(2):  # the same again goes through
        words = ["CXR_author", "unet", xp, data, *TINY, "--heatmaps", tmp_path / "new"]
        assert invoke(cli.test, *words).exit_code == 0
        assert "other files" not in caplog.text
    (tmp_path / "new/a.png").touch()
    assert invoke(cli.test, *words, "--overwrite").exit_code == 0
    assert "new: holds 1 other files, which are not of this test" in (xp / "log.txt").read_text()


def test_a_training_does_not_remove_results_without_their_run(xp, data, trained, tmp_path):
    alone = tmp_path / "alone"
    score(alone, data, "--load_model", trained / "model.tar")
    before = contents(alone)
    for words in ([], ["--resume", "auto"]):
        message = stopped(invoke(cli.train, "CXR_author", "unet", alone, data, *TINY, *words))
        assert "holds results of test.py (scores.csv) without their run; --overwrite removes them" in message
    assert contents(alone) == before


def test_what_makes_results_doubtful_is_in_metrics_json_and_the_log(xp, data):
    result = invoke(cli.test, "CXR_author", "unet", xp, data, *TINY)
    warnings = json.loads((xp / "metrics.json").read_text())["warnings"]
    assert [line.split(" ")[0] for line in warnings] == ["only", "k", "threshold", "the"]
    assert "the AUC on test compares only 2 normal with 2 abnormal" in warnings[-1]
    assert all(line in result.stderr for line in warnings)
    score(xp, data, "--min_normals", 4)
    metrics = read_json(xp / "metrics.json")
    assert metrics["at_threshold"] is None
    assert "no threshold and no percentiles: only 3 normal images, fewer than --min_normals 4" in metrics["warnings"]


def test_a_disk_without_room_for_heatmaps_loses_no_result(trained, data, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise StorageError("0.png: cannot be written (No space left on device)")

    monkeypatch.setattr("salad.explaining.locate.locate", fail)
    shutil.copytree(trained, tmp_path / "xp")
    words = ["CXR_author", "unet", tmp_path / "xp", data, *TINY, "--heatmaps", tmp_path / "maps"]
    assert "No space left" in stopped(invoke(cli.test, *words), status=1)
    assert read_json(tmp_path / "xp/metrics.json")["auc"] and (tmp_path / "xp/scores.csv").exists()
