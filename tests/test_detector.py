"""The Python API: what it gives for files, arrays and tensors, and how it behaves among scikit-learn's tools."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import ONE_THREAD, REPOSITORY, read_csv, read_json, read_tar, score, tiny_unet, train
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted

import salad
from salad import Detector
from salad.checkpoint import load_checkpoint
from salad.config import OPTIONS
from salad.datasets import phantom
from salad.errors import InputError
from salad.losses import LOSSES

pytestmark = pytest.mark.trains

TINY = {"isize": 64, "rep_dim": 8, "batch_size": 6, "n_jobs_dataloader": 1, "device": "cpu"}
FIT = {**TINY, "n_epochs": 5, "lr": 1e-3, "ans_select_rate": 1.0, "ans_size": 2}
QUICK = {**FIT, "n_epochs": 1}
STILL = {**QUICK, "lr": 1e-6}  # weights as they were drawn, so that rounding does not grow from step to step


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tiny_unet():
        yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Eight normal films to train on, four of each class to validate and three of each to score."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=80, num_train=8, num_val=4, num_test=3)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    xp = tmp_path_factory.mktemp("run")
    train(xp, data, "--normalize", "standardize", "--resize", "pad", "--n_epochs", 10)
    score(xp, data)
    return xp


@pytest.fixture(scope="module")
def detector(run) -> Detector:
    return Detector.load(run / "model.tar", device="cpu")


@pytest.fixture(scope="module")
def files(data, run) -> list[Path]:
    return [data / row["path"] for row in read_csv(run / "scores.csv")]


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    """Noise, brighter from one to the next: (9, 40, 50)."""
    noise = np.random.default_rng(0).random((9, 40, 50))
    return (noise * np.linspace(50, 255, 9)[:, None, None]).astype(np.uint8)


def close_to(scores: np.ndarray) -> object:
    """The same but for rounding, which may differ from one object to the next; only scores that differ say that."""
    assert np.ptp(scores) > 1e-3
    return pytest.approx(scores, abs=1e-5)


def pixels_of(files: list[Path]) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for file in files]


def test_scores_are_those_of_test_py(run, files, detector):
    rows = read_csv(run / "scores.csv")

    scores = detector.score(files)

    assert scores.dtype == np.float64
    assert scores == pytest.approx([float(row["score"]) for row in rows], abs=1e-6)
    assert detector.percentile(scores) == pytest.approx([float(row["percentile"]) for row in rows], abs=1e-3)
    assert detector.threshold == read_json(run / "metrics.json")["at_threshold"]["threshold"]
    assert len(set(scores)) == len(scores)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weighted", "reconstruction", "svdd"])
def test_other_scores_are_those_of_test_py(run, data, files, name):
    expected = score(run, data, "--score", name, "--batch_size", 2)  # what is scored afterwards is not changed
    score(run, data)

    assert Detector.load(run / "model.tar", score=name, device="cpu").score(files) == pytest.approx(expected, rel=1e-3)


def test_films_that_show_nothing_are_said_once(detector, films, caplog):
    assert len(detector.score([films[0], films[0] * 0, films[0] * 0])) == 3
    (line,) = [message for message in caplog.messages if "nearly black" in message]
    assert line.startswith("nearly black: 2 of 3 images, the first is") and line.endswith("(number 1)")


def test_arrays_and_tensors_score_as_their_files(detector, files):
    pixels, expected = pixels_of(files), detector.score(files)

    assert detector.score(pixels) == close_to(expected)
    assert detector.score(np.stack(pixels)) == close_to(expected)
    assert detector.score(torch.from_numpy(np.stack(pixels))[:, None]) == close_to(expected)
    assert detector.score([np.dstack([one] * 3) for one in pixels]) == close_to(expected)
    assert detector.score(str(files[0])) == pytest.approx(detector.score(pixels[0]), abs=1e-5)


def test_score_is_one_for_each_image_also_over_many_batches(detector, films):
    alone = [detector.score(film)[0] for film in films]

    assert detector.score(films) == pytest.approx(alone, abs=1e-6)
    assert Detector.load(detector_path(detector), batch_size=2, device="cpu").score(films) == pytest.approx(
        alone, abs=1e-6
    )
    assert detector.score([]).shape == (0,)


def detector_path(detector: Detector) -> Path:
    return detector.scorer_.checkpoint.path


def test_folders_are_scored_in_the_order_of_files(data, detector):
    folder = data / "test"
    film = next((data / "train/0.normal").iterdir())

    files = Detector.files([str(folder), film])

    assert files == [*sorted(folder.rglob("*.png")), film] and len(files) == 7
    assert detector.score([folder, str(film)]) == pytest.approx(detector.score(files), abs=1e-6)


def test_a_detector_is_fitted_on_a_folder(data, tmp_path):
    folder = tmp_path / "films"
    shutil.copytree(data / "train/0.normal", folder / "a/b")
    fitted = Detector(**STILL).fit(str(folder))

    assert len(fitted.scorer_.checkpoint.bank.rows) == 7  # of eight, one is held out
    with pytest.raises(InputError, match="it holds a folder called 1.abnormal: give the folder of its normal images"):
        Detector(**STILL).fit(data / "test")


def test_an_image_that_cannot_be_read_is_named(detector, tmp_path, films):
    with pytest.raises(InputError, match=r"absent\.png \(number 1\): no such file"):
        detector.score([films[0], tmp_path / "absent.png"])
    with pytest.raises(InputError, match=r"an array of shape \(4, 4\) \(number 0\): an image with NaN"):
        detector.score(np.full((4, 4), np.nan))


def test_outliers_are_what_scores_above_the_threshold(detector, films):
    scores = detector.score(films)
    detector = Detector.load(detector_path(detector), device="cpu").calibrate(films)

    assert detector.threshold == pytest.approx(scores.max(), abs=1e-5)  # 95 % of nine are nine
    detector.set_params(specificity=0.5)
    assert detector.threshold == pytest.approx(np.sort(scores)[4], abs=1e-5)
    scores = detector.score(films)
    assert detector.predict(films).tolist() == np.where(scores > detector.threshold, -1, 1).tolist()
    assert sorted(detector.predict(films)) == [-1] * 4 + [1] * 5
    assert detector.decision_function(films) == pytest.approx(detector.threshold - scores)
    assert detector.score_samples(films) == pytest.approx(-scores)


def test_without_validation_scores_there_is_no_threshold_until_it_is_calibrated(run, films, caplog):
    detector = Detector.load(run / "model.tar", k=3, device="cpu")

    assert "no percentiles and no threshold: the checkpoint holds no scores of normal validation" in caplog.text
    assert detector.threshold is None
    assert detector.percentile([0.5]) is None
    with pytest.raises(InputError, match=r"there is no threshold: .*; calibrate\(normal images\) sets one"):
        detector.predict(films)
    assert detector.calibrate(films).percentile(detector.score(films)).max() > 90


def test_what_makes_scores_doubtful_is_a_property_and_said_once(run, films, caplog):
    detector = Detector.load(run / "model.tar", device="cpu", score="svdd")
    detector.calibrate(films[:4])
    caplog.clear()
    for method in (detector.score, detector.score_samples, detector.decision_function, detector.predict):
        method(films[:2])

    assert not caplog.text
    few = "threshold and percentiles come from only 4 normal images; below 20 they are rough"
    assert detector.warnings == ("only 8 normal images to train on: fewer than 10 do not show what is normal", few)
    assert pickle.loads(pickle.dumps(detector)).warnings == detector.warnings


def test_a_threshold_from_one_or_two_images_has_to_be_asked_for(films, tmp_path, caplog):
    detector = Detector(**QUICK, val_share=0.2).fit(films)
    assert detector.threshold is None and detector.percentile([0.1]) is None
    refused = "no threshold and no percentiles: only 2 normal images, fewer than --min_normals 3"
    assert detector.warnings[-1] == refused and refused in caplog.text
    with pytest.raises(InputError, match="no threshold: only 2 normal images are held out, fewer than min_normals"):
        detector.predict(films)
    with pytest.raises(InputError, match="there are 2 normal images to calibrate with .*fewer than --min_normals 3"):
        detector.calibrate(films[:2])
    detector.save(tmp_path / "small.tar")

    asked = Detector.load(tmp_path / "small.tar", device="cpu", min_normals=2)
    assert asked.threshold is not None and "from only 2 normal images" in asked.warnings[-1]


def test_a_saved_detector_is_the_same_and_smaller(run, films, tmp_path):
    detector = Detector.load(run / "model.tar", k=3, score="weighted", device="cpu").calibrate(films)
    detector.save(tmp_path / "small.tar")

    again = Detector.load(tmp_path / "small.tar", device="cpu")

    assert again.score(films) == close_to(detector.score(films))
    assert again.threshold == detector.threshold
    assert Detector.load(tmp_path / "small.tar", score="knn", device="cpu").threshold is None  # of another
    assert "optimizer" not in read_tar(tmp_path / "small.tar")
    assert read_tar(tmp_path / "small.tar")["config"]["normalize"] == "standardize"


def test_a_saved_detector_is_a_checkpoint_for_test_py(run, data, detector, tmp_path):
    expected = score(run, data)
    detector.save(tmp_path / "model.tar")

    assert score(tmp_path, data) == close_to(expected)


def test_a_published_checkpoint_takes_what_it_does_not_know(run, films, tmp_path):
    state = {name: value for name, value in read_tar(run / "model.tar").items() if name.endswith("_state_dict")}
    torch.save(state, tmp_path / "published.tar")
    ours = Detector.load(run / "model.tar", device="cpu")

    detector = Detector.load(tmp_path / "published.tar", resize="pad", normalize="standardize", device="cpu")
    otherwise = Detector.load(tmp_path / "published.tar", device="cpu")

    assert detector.score(films) == close_to(ours.score(films))
    assert not np.allclose(otherwise.score(films), ours.score(films))
    detector.save(tmp_path / "ours.tar")
    assert Detector.load(tmp_path / "ours.tar", device="cpu").score(films) == close_to(ours.score(films))


def test_an_explanation_shows_the_neighbours_and_maps_of_an_image(detector, files, run):
    found = detector.explain(files[0])
    assert found.score == pytest.approx(detector.score(files[0])[0], abs=1e-5)
    assert found.percentile == pytest.approx(detector.percentile(found.score))

    assert found.pixels.shape == found.recon.shape == found.error_map.shape == (64, 64)
    assert found.memory_map.shape == (64, 64)
    assert all(one.name.startswith("train/") for one in found.neighbours)
    mean_angle = np.mean([one.distance for one in detector.explain(files[0]).neighbours])
    nearest = Detector.load(run / "model.tar", k=len(found.neighbours), device="cpu").score(files[0])
    assert mean_angle == pytest.approx(nearest[0], abs=1e-5)
    of_array = detector.explain(pixels_of(files)[0])
    assert of_array.error_map == pytest.approx(found.error_map, abs=1e-5)
    with pytest.raises(InputError, match="one image at a time"):
        detector.explain(files)


@pytest.mark.slow
def test_an_explanation_after_a_fit_does_without_the_training_images(films):
    found = Detector(**QUICK).fit(films).explain(films[0])

    assert found.memory_map is None
    assert found.neighbours[0].name.startswith("row ")


def test_what_contradicts_the_checkpoint_is_refused(run):
    with pytest.raises(InputError, match=r"--isize is 128, but .*model\.tar was trained with 64"):
        Detector.load(run / "model.tar", isize=128)
    with pytest.raises(InputError, match="no option is called 'isise'; did you mean 'isize'"):
        Detector.load(run / "model.tar", isise=64)
    with pytest.raises(InputError, match="--k is 1000, but the memory holds only 8 rows"):
        Detector.load(run / "model.tar", k=1000)


@pytest.mark.slow
def test_fit_trains_and_calibrates_with_images_that_it_held_out(films, tmp_path):
    detector = Detector(**FIT, val_share=0.3, xp_path=tmp_path / "run")

    assert detector.fit(films) is detector

    checkpoint = load_checkpoint(tmp_path / "run" / "model.tar")
    assert len(checkpoint.bank.rows) == 6
    held = checkpoint.training["val_normal_scores"].numpy()
    assert len(held) == 3
    apart = np.abs(held[:, None] - detector.score(films))
    assert apart.min(axis=1).max() < 1e-4 < np.median(apart)
    assert detector.threshold == held.max()
    assert checkpoint.normal_class is None


def test_fit_takes_further_normals_of_several_kinds(data, films, tmp_path):
    folder, arrays = data / "test/0.normal", films[7:]
    with_copies = [*arrays, films[0]]

    detector = Detector(**STILL, val_share=0.3, xp_path=tmp_path / "run").fit(
        films[:7], more_normals=[folder, with_copies]
    )

    checkpoint = load_checkpoint(tmp_path / "run/model.tar")
    assert checkpoint.training["kinds"] == {"train": 5, "test/0.normal": 3, "more normals 2": 2}
    assert len(checkpoint.bank.rows) == 10 and len(checkpoint.training["val_normal_scores"]) == 2
    assert detector.scorer_.model.kinds == checkpoint.training["kinds"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("films/", r"more_normals is films/, but must be a list: give \['films/'\]"),
        (["nowhere/at/all"], "--more_normals .*nowhere/at/all: no such folder or file"),
        ([3], "an image is a path, a numpy array or a torch tensor, not int"),
    ],
)
def test_fit_refuses_further_normals_that_are_none(films, more, message):
    with pytest.raises(InputError, match=message):
        Detector(**QUICK).fit(films, more_normals=more)


def test_fit_takes_files_of_different_sizes_and_arrays_of_them_alike(data, films, tmp_path):
    files = sorted((data / "train").rglob("*.png"))
    Image.fromarray(films[0]).save(tmp_path / "other.png")
    files.append(tmp_path / "other.png")

    of_files = Detector(**STILL).fit(files)
    of_arrays = Detector(**STILL).fit(pixels_of(files))

    assert of_files.score(films) == close_to(of_arrays.score(films))


def test_fit_is_seeded_and_leaves_the_generators_as_they_were(films):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    first, second, third = (Detector(**STILL, seed=seed).fit(films).score(films) for seed in (1, 1, 2))

    assert first == close_to(second)
    assert third != pytest.approx(first, abs=1e-3)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_fit_leaves_a_run_of_its_own_alone_and_no_temporary_folder(films, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    Detector(**QUICK).fit(films)

    assert list((tmp_path / "temporary").iterdir()) == []
    detector = Detector(**QUICK, xp_path=tmp_path / "run").fit(films)
    with pytest.raises(InputError, match="holds a run"):
        detector.fit(films)
    detector.set_params(overwrite=True).fit(films)


@pytest.mark.parametrize(
    ("parameters", "images", "message"),
    [
        ({"val_share": 1.0}, slice(None), "val_share is 1.0, but must be at least 0 and below 1"),
        ({"lr": -1.0}, slice(None), "--lr is -1.0, but must be above 0"),
        ({}, slice(1), "there are 1 images, and 1 are held out"),
        ({}, slice(0), "there are no images to train on"),
        ({"ans_size": 50}, slice(None), "--ans_size is 50, but 8 memory rows have 7 others each"),
    ],
)
def test_fit_refuses_what_it_cannot_do(films, parameters, images, message):
    with pytest.raises(InputError, match=message):
        Detector(**{**FIT, **parameters}).fit(films[images])


def test_a_fitted_detector_saves_without_its_folder(films, tmp_path):
    detector = Detector(**QUICK, val_share=0).fit(films)
    detector.save(tmp_path / "model.tar")

    assert detector.threshold is None
    assert Detector.load(tmp_path / "model.tar", device="cpu").score(films) == close_to(detector.score(films))


@pytest.mark.slow
def test_a_fitted_detector_can_be_pickled_with_its_calibration(films):
    detector = Detector(**FIT).fit(films)
    detector.calibrate(films[:5])

    again = pickle.loads(pickle.dumps(detector))

    assert again.decision_function(films) == close_to(detector.decision_function(films))
    assert again.get_params() == detector.get_params()


@pytest.mark.slow
def test_a_checkpoint_of_a_fit_scores_folders(films, data, tmp_path):
    detector = Detector(**FIT, xp_path=tmp_path / "run").fit(films)

    scores = score(tmp_path / "run", data)

    assert scores == close_to(detector.score([data / row["path"] for row in read_csv(tmp_path / "run/scores.csv")]))


@pytest.mark.parametrize(
    "check",
    [
        "check_do_not_raise_errors_in_init_or_set_param",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_estimators_unfitted",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
def test_scikit_learn_finds_its_conventions_kept(check):
    if hasattr(estimator_checks, check):  # they come and go with its releases
        getattr(estimator_checks, check)("Detector", Detector())


def test_parameters_are_known_copied_and_changed():
    detector = Detector(lr=0.5, xp_path=Path("somewhere"))

    assert clone(detector).get_params() == detector.get_params()
    assert repr(detector) == "Detector(lr=0.5, xp_path=PosixPath('somewhere'))"
    assert detector.set_params(lr=0.25).get_params()["lr"] == 0.25
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rate'"):
        Detector(learning_rate=1)
    with pytest.raises(ValueError, match="Invalid parameter 'n_epoch' for estimator Detector"):
        detector.set_params(n_epoch=1)
    with pytest.raises(InputError, match="no option is called 'n_epoch'; did you mean 'n_epochs'"):
        Detector(options={"n_epoch": 1}).fit([])


def test_arguments_are_options_and_options_are_arguments_but_for_those_of_folders():
    names = {*Detector().get_params()}
    assert names - {"options"} <= {*OPTIONS}
    assert {*OPTIONS} - names - {spec.weight for spec in LOSSES.values()} == {
        *("dataset_name", "data_path", "normal_class", "split_dir", "view", "min_age", "part", "train_on", "strict"),
        *(
            "abnormal",
            "on_bad_image",
            "cache",
            "sync_bn",
            "heatmaps",
            "out",
            "report",
            "tensorboard",
            "mlflow",
            "resume",
        ),
        "abnormal",
        "more_normals",  # an argument of `fit`
    }


def test_an_option_beside_the_arguments_is_taken(films):
    detector = Detector(**QUICK, options={"w_rec": 2.0, "on_bad_image": "skip"}).fit(films)
    assert detector.scorer_.config.loss.weights["rec"] == 2
    assert detector.scorer_.config.data.on_bad_image == "skip"


def test_a_loaded_detector_knows_how_it_was_trained(detector):
    found = detector.get_params()

    assert (found["n_epochs"], found["rep_dim"], found["isize"], found["normalize"]) == (10, 8, 64, "standardize")
    assert found["lr_milestone"] == (100,)
    check_is_fitted(detector)


def test_it_works_in_a_pipeline_and_with_the_metrics(films):
    pipeline = make_pipeline(FunctionTransformer(np.flip), Detector(**QUICK, min_normals=1)).fit(films)
    labels = [0, 1] * 4 + [0]

    scores = pipeline.score_samples(films)

    assert isinstance(pipeline, Pipeline)
    assert scores == close_to(-pipeline[-1].score(np.flip(films)))
    assert set(pipeline.predict(films)) <= {-1, 1}
    assert roc_auc_score(labels, scores) == pytest.approx(1 - roc_auc_score(labels, -scores))


@pytest.mark.slow
def test_it_can_be_cross_validated(films):
    inlier = np.where(np.arange(9) % 3 == 0, -1, 1)

    detector = Detector(**QUICK, min_normals=1)
    found = cross_val_score(detector, films, inlier, scoring="roc_auc", cv=3, error_score="raise")

    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.slow
def test_importing_the_package_costs_nothing_and_loading_no_training_tools(run):
    code = """
import sys, salad
assert "torch" not in sys.modules and "numpy" not in sys.modules
assert "Detector" in salad.__all__
salad.Detector
heavy = {"matplotlib", "jinja2", "onnx", "pandas", "mlflow", "pydicom"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, env=ONE_THREAD)
    with pytest.raises(AttributeError, match="has no attribute 'detektor'"):
        salad.detektor  # noqa: B018
