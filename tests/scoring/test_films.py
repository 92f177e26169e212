"""Drift from the calibration of a training to the words of test.py, predict and the Python API."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from running import invoke, read_json, read_tar, score, tiny_unet, train

from salad import Detector
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.datasets import phantom
from salad.errors import InputError
from salad.evaluation.films import MEASUREMENTS
from salad.samples import ABNORMAL, NORMAL, Sample, Split
from salad.scoring.films import calibration_facts, find_normals, read_calibration

FRAMED = {*MEASUREMENTS} - {"aspect"}
NONE = "drift: none: the medians of {} films are near those of the 8 normal films that the model was calibrated on in"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight normal films to train on, eight of each class to validate and six of each to score."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=80, num_train=8, num_val=8, num_test=6)
    return root


@pytest.fixture(scope="module")
def bordered(data, tmp_path_factory):
    """The films to score with a wide black border."""
    root = shutil.copytree(data, tmp_path_factory.mktemp("bordered") / "data")
    for path in (root / "test").rglob("*.png"):
        with Image.open(path) as film:
            ImageOps.expand(film, border=16).save(path)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    xp = tmp_path_factory.mktemp("run")
    train(xp, data, "--align")
    return xp


@pytest.fixture(scope="module")
def detector(run):
    with tiny_unet():
        yield Detector.load(run / "model.tar", device="cpu")


def films_of(root, kind="0.normal"):
    return sorted((root / kind).glob("*.png"))


def predict(run, *words):
    result = invoke(main, "predict", "--load_model", run / "model.tar", "--device", "cpu", *words)
    assert result.exit_code == 0, result.stderr
    return result.stderr


def test_a_training_measures_the_films_that_it_calibrates_on(run, data):
    films = read_tar(run / "model.tar")["films"]
    assert films.keys() == FRAMED and {len(values) for values in films.values()} == {8}
    means = [np.asarray(Image.open(path)).mean() for path in films_of(data / "val")]
    assert films["brightness"].tolist() == pytest.approx(sorted(means), abs=1)


def test_test_py_compares_the_normal_films(run, data, bordered, tmp_path):
    score(tmp_path / "same", data, "--load_model", run / "model.tar")
    same = read_json(tmp_path / "same/metrics.json")
    assert same["drift"]["is_found"] is False and same["drift"]["num_films"] == 6
    assert not any(line.startswith("drift") for line in same["warnings"])

    score(tmp_path / "other", bordered, "--load_model", run / "model.tar", "--cache", "off", "--report")
    other = read_json(tmp_path / "other/metrics.json")
    assert other["drift"]["is_found"] is True and other["drift"]["medians"]["chest_height"]["is_drift"]
    (line,) = (line for line in other["warnings"] if "the chest is" in line)
    assert line.startswith("drift: in these 6 normal films ") and line.endswith("(predict --calibrate)")
    page = (tmp_path / "other/report.html").read_text(encoding="utf-8")
    assert line in page and f"<dt>Drift</dt><dd>{other['drift']['lines'][0].partition(': ')[0]}" in page


def test_predict_says_at_its_end_if_the_films_are_of_another_kind(run, data, bordered):
    assert NONE.format(12) in predict(run, data / "test")
    said = predict(run, bordered / "test")
    assert "drift: in these 12 films " in said and "the chest is" in said
    assert "drift: too few films to tell: 1, and 5 are needed" in predict(run, films_of(data / "test")[0])
    assert "drift: none: " in predict(run, bordered / "test", "--calibrate", bordered / "test")


def test_a_detector_compares_the_films_of_its_last_call(detector, data, bordered, tmp_path):
    assert pickle.loads(pickle.dumps(detector)).drift is None
    detector.score(films_of(data / "test"))
    assert detector.drift.num_films == 6 and not detector.drift.drifted
    detector.score([np.asarray(Image.open(path)) for path in films_of(bordered / "test")])
    assert detector.drift.num_films == 6 and "chest_height" in detector.drift.drifted

    again = pickle.loads(pickle.dumps(detector)).calibrate(films_of(bordered / "test"))
    assert again.drift is None
    again.save(tmp_path / "again.tar")
    loaded = Detector.load(tmp_path / "again.tar", device="cpu")
    loaded.predict(films_of(bordered / "test"))
    assert loaded.drift.num_calibrated == 6 and not loaded.drift.drifted
    loaded.score(films_of(data / "test"))
    assert "chest_height" in loaded.drift.drifted


def test_without_registration_the_shape_of_the_files_is_compared(data, tmp_path):
    train(tmp_path / "run", data)
    films = read_tar(tmp_path / "run/model.tar")["films"]
    assert films.keys() == {"brightness", "contrast", "sharpness", "aspect"}
    assert films["aspect"].tolist() == [1.0] * 8
    wide = tmp_path / "wide"
    wide.mkdir()
    for path in films_of(data / "test"):
        with Image.open(path) as film:
            film.resize((120, 80)).save(wide / path.name)
    assert "the film is, for its height, 50 % wider" in predict(tmp_path / "run", wide)
    with tiny_unet():
        detector = Detector.load(tmp_path / "run/model.tar", device="cpu")
        detector.score([np.asarray(Image.open(path)) for path in sorted(wide.iterdir())])
    assert "aspect" in detector.drift.drifted


def test_a_model_without_measurements_says_that_it_cannot_tell(run, data, tmp_path):
    content = read_tar(run / "model.tar")
    del content["films"]
    torch.save(content, tmp_path / "model.tar")
    assert "drift: unknown: the model does not tell how the films" in predict(tmp_path, data / "test")
    score(tmp_path / "xp", data, "--load_model", tmp_path / "model.tar")
    assert read_json(tmp_path / "xp/metrics.json")["drift"]["lines"][0].startswith("unknown: ")


@pytest.mark.parametrize(
    "films", [3, {"brightness": "many"}, {"contrast": torch.tensor([torch.nan])}, {"sharpness": torch.ones(2, 2)}]
)
def test_damaged_measurements_are_refused(run, tmp_path, films):
    torch.save({**read_tar(run / "model.tar"), "films": films}, tmp_path / "model.tar")
    with pytest.raises(InputError, match=r"model\.tar: "):
        load_checkpoint(tmp_path / "model.tar")


def test_measurements_of_another_release_are_passed_over(run, tmp_path):
    content = read_tar(run / "model.tar")
    films = {"brightness": torch.arange(4.0), "tilt": "steep", "contrast": None, "sharpness": torch.empty(0)}
    torch.save({**content, "films": films}, tmp_path / "model.tar")
    calibration = read_calibration(load_checkpoint(tmp_path / "model.tar").training)
    assert {name: values.tolist() for name, values in calibration.films.items()} == {"brightness": [0, 1, 2, 3]}
    assert calibration_facts(calibration)["films"].keys() == {"brightness"}
    assert calibration_facts(None) == {"val_normal_scores": None, "films": {}}


def test_films_without_a_normal_one_are_all_compared(tmp_path):
    def split(*labels):
        samples = [Sample(tmp_path, str(i), label) for i, label in enumerate(labels)]
        return Split(samples=samples, normal_class="", classes=())

    assert find_normals(split(ABNORMAL, NORMAL, NORMAL)).tolist() == [1, 2]
    assert find_normals(split(ABNORMAL, ABNORMAL)).tolist() == [0, 1]
