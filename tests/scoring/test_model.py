"""The one scoring core: every way to score gives the same, of our checkpoints and of published ones."""

import shutil

import numpy as np
import pytest
import torch
from running import CPU, invoke, read_csv, read_tar, score, tiny_unet, train

from salad import Detector
from salad.build import RunContext
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.datasets import read_split
from salad.errors import InputError
from salad.images.in_memory import read_source
from salad.scores import SCORES
from salad.scores.inputs import Normals
from salad.scoring.evaluate import score_split
from salad.scoring.model import ScoringModel
from salad.scoring.options import scoring_config

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def mixed(data, tmp_path_factory):
    """The same films with three abnormal ones among those to train on."""
    root = tmp_path_factory.mktemp("mixed") / "data"
    shutil.copytree(data, root)
    shutil.copytree(root / "test/1.abnormal", root / "train/1.abnormal")
    return root


@pytest.fixture(scope="module")
def run(mixed, tmp_path_factory):
    xp = tmp_path_factory.mktemp("run")
    train(xp, mixed, "--train_on", "all", "--lr", 0.003, "--n_epochs", 3)
    return xp


@pytest.fixture(scope="module")
def published(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "published.tar"
    content = read_tar(run / "model.tar")
    torch.save({name: value for name, value in content.items() if name.endswith("_state_dict")}, path)
    return path


def load(path, *, device=CPU, **given):
    checkpoint = load_checkpoint(path)
    config = scoring_config(checkpoint, {"n_jobs_dataloader": 0, **given})
    with tiny_unet():
        return ScoringModel.load(checkpoint, RunContext(config=config, device=device, template=checkpoint.template))


def predicted(path, folder, out, *options):
    result = invoke(main, "predict", "--load_model", path, "--device", "cpu", "--out", out, *options, folder)
    assert result.exit_code == 0, result.stderr
    return [float(row["score"]) for row in read_csv(out)]


def test_a_published_file_counts_the_same_rows_as_normal_in_every_command(run, published, mixed, tmp_path, caplog):
    ours = score(run, mixed, "--k", 3)
    expected = score(tmp_path / "xp", mixed, "--load_model", published, "--k", 3)
    assert expected == pytest.approx(ours, abs=1e-5)  # train/ tells which rows are normal

    found = predicted(published, mixed / "test", tmp_path / "a.csv", "--data_path", mixed, "--k", 3)
    with tiny_unet():
        detector = Detector.load(published, data_path=mixed, k=3, device="cpu")
    model = load(published, data_path=mixed, k=3)

    assert sorted(found) == pytest.approx(sorted(expected), abs=1e-5)
    assert "the labels of the memory rows are unknown" not in caplog.text
    assert len(model.normals.rows) == len(detector.scorer_.model.normals.rows) == 8
    assert sorted(detector.score(sorted((mixed / "test").rglob("*.png")))) == pytest.approx(sorted(expected), abs=1e-5)


def test_where_train_is_not_at_hand_all_rows_count_as_normal_which_is_said(published, mixed, tmp_path, caplog):
    found = predicted(published, mixed / "test", tmp_path / "a.csv", "--k", 3)
    elsewhere = tmp_path / "data"
    shutil.copytree(mixed / "test", elsewhere / "test")
    expected = score(tmp_path / "xp", elsewhere, "--load_model", published, "--k", 3)

    assert sorted(found) == pytest.approx(sorted(expected), abs=1e-5)
    assert "the labels of the memory rows are unknown, so all count as normal" in caplog.text
    assert len(load(published, k=3).normals.rows) == 11


@pytest.mark.parametrize("name", ["knn", "weighted", "reconstruction", "svdd"])
def test_a_batch_scores_as_the_test_folder(run, mixed, tmp_path, name):
    expected = score(tmp_path, mixed, "--load_model", run / "model.tar", "--score", name)
    model = load(run / "model.tar", score=name, data_path=mixed)
    paths = [mixed / row["path"] for row in read_csv(tmp_path / "scores.csv")]

    grey = torch.from_numpy(np.stack([read_source(path, model.context.decoder) for path in paths]))[:, None]
    parts, inputs = model.score(grey)

    assert parts.keys() == {name} and parts[name].dtype == np.float64
    assert model.combine(parts) == pytest.approx(expected, abs=1e-5)
    assert inputs.images.shape == (len(paths), 3, 64, 64)


def test_a_score_that_is_not_finite_is_refused(run):
    model = load(run / "model.tar")
    with pytest.raises(InputError, match="not a finite number: the weights of the model are damaged"):
        model.combine({"knn": np.array([0.1, np.nan])})


def test_without_a_centre_there_is_no_svdd_score(run):
    model = load(run / "model.tar", score="svdd")
    normals = Normals(rows=model.normals.rows, k=0, temperature=0.1, memories={})
    with pytest.raises(InputError, match="--score svdd needs a model that was trained with --w_svdd above 0"):
        ScoringModel(context=model.context, network=model.network, normals=normals)


def test_every_score_of_the_table_can_be_loaded():
    for spec in SCORES.values():
        assert callable(spec.load())
        assert spec.features is None or callable(spec.load_features())


def test_scoring_a_split_keeps_embeddings_where_they_are_asked_for(run, mixed):
    model = load(run / "model.tar", data_path=mixed)
    split = model.context.scan({"test": read_split("CXR_author", mixed, "test")})["test"]

    assert score_split(model, split).z.shape == (6, 0)
    assert score_split(model, split, keeps_z=True).z.shape == (6, 8)
