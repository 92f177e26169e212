import logging
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from running import CPU, tiny_unet, train

from salad.build import RunContext
from salad.checkpoint import load_checkpoint
from salad.config import Config
from salad.datasets import phantom, read_split
from salad.explaining.explain import Explainer
from salad.explaining.heatmaps import ErrorLevels
from salad.explaining.make import make_explainer
from salad.explaining.maps import DEVIATIONS_RANGE, RAW_RANGE
from salad.images import decoder
from salad.scores.inputs import Inputs
from salad.scoring.model import ScoringModel
from salad.scoring.options import reconcile

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on eight images with two views each and ten normal images in val/."""
    root = tmp_path_factory.mktemp("explain")
    phantom.write_phantom(root / "data", size=32, num_train=8, num_val=10, num_test=3)
    train(root / "xp", root / "data", "--n_views", 2)
    return SimpleNamespace(xp=root / "xp", data=root / "data")


def explained(run, *, xp=None, **given):
    """Explanations of the test images, and their samples."""
    checkpoint = load_checkpoint((xp or run.xp) / "model.tar")
    given = {"dataset_name": "CXR_author", "net_name": "unet", "xp_path": run.xp, "data_path": run.data, **given}
    config = Config.of(reconcile(given, checkpoint))
    with tiny_unet():
        context = RunContext(config=config, device=CPU, template=checkpoint.template)
        explainer = make_explainer(ScoringModel.load(checkpoint, context), checkpoint)
    split = context.scan({"test": read_split("CXR_author", run.data, "test", selection=config.data.selection)})["test"]
    (batch,) = context.loader(split).epoch(0)
    return explainer, explainer.explain(batch.grey), split


def pixels_of(found):
    """What was explained, as a batch."""
    return torch.from_numpy(np.stack([one.pixels for one in found]))[:, None]


def test_what_an_explanation_holds(run):
    explainer, found, split = explained(run)
    assert len(found) == 6
    train_names = {sample.name for sample in read_split("CXR_author", run.data, "train").only_normal().samples}
    for one, sample in zip(found, split.samples, strict=True):
        assert one.pixels.dtype == one.recon.dtype == np.uint8
        assert one.error_map.dtype == one.memory_map.dtype == np.float32
        assert {a.shape for a in (one.pixels, one.recon, one.error_map, one.memory_map)} == {(64, 64)}
        assert one.maps["error"].overlay.shape == one.maps["memory"].overlay.shape == (64, 64, 3)
        assert (one.pixels == decoder.Decoder(isize=64, resize="squash").read(sample)).all()
        assert one.maps["error"].between == DEVIATIONS_RANGE and one.maps["error"].is_standardized
        names = [neighbour.name for neighbour in one.neighbours]
        assert len(names) == len(set(names)) == 5 and train_names.issuperset(names)  # of eight images with two rows
        assert all(neighbour.is_angle for neighbour in one.neighbours)
        angles = [neighbour.distance for neighbour in one.neighbours]
        assert angles == sorted(angles) and 0 <= angles[0] <= 1
        path = run.data / names[0]
        assert (one.neighbours[0].pixels == np.asarray(Image.open(path).convert("L").resize((64, 64), 2))).all()
    assert explainer.levels.mean.shape == (64, 64)


def test_the_nearest_row_of_each_image_is_found_exactly(run):
    explainer, found, _ = explained(run)
    grey = pixels_of(found)
    z, _ = explainer.network(grey.float().div(127.5).sub(1).expand(-1, 3, -1, -1))
    angles = (z @ explainer.rows.T).clamp(-1, 1).arccos() / torch.pi
    best = angles.view(len(z), 8, 2).amin(dim=2).sort(dim=1)  # two rows an image
    names = explainer.row_names[::2]
    for i, one in enumerate(found):
        assert [neighbour.name for neighbour in one.neighbours] == [names[n] for n in best.indices[i, :5]]
        assert [neighbour.distance for neighbour in one.neighbours] == pytest.approx(
            best.values[i, :5].tolist(), abs=1e-4
        )


def test_views_of_one_image_count_once(run):
    explainer, found, _ = explained(run)
    rows = explainer.rows[::2].repeat_interleave(2, dim=0)  # both views of an image are equally near
    names = explainer.row_names
    model = replace(explainer.model, normals=replace(explainer.model.normals, rows=rows))
    twice = Explainer(model, row_names=names, train_images=None)
    for one in twice.explain(pixels_of(found)):
        assert len({neighbour.name for neighbour in one.neighbours}) == len(one.neighbours) == 5
        assert one.memory_map is None and one.neighbours[0].pixels is None


def test_a_training_image_is_not_unlike_its_own_features(run):
    explainer, _, _ = explained(run)
    near = Explainer(explainer.model, row_names=explainer.row_names, train_images=explainer.train_images)
    near.num_neighbours = 8
    grey = torch.from_numpy(explainer.train_images([0, 6]))[:, None]
    own, turned = (max(one.memory_map.max() for one in near.explain(images)) for images in (grey, 255 - grey))
    assert own < 1e-6 and turned > 5 * own


def test_error_maps_are_counted_from_validation_normals(run):
    explainer, found, _ = explained(run)
    grey = pixels_of(found)
    raw = explainer.look_at(Inputs(explainer.network, grey, explainer.preprocessing)).errors
    levels = explainer.levels
    assert np.allclose(found[0].error_map, ((raw - levels.mean) / levels.std)[0], atol=1e-5)
    explainer.levels = None
    plain = explainer.explain(grey)
    assert np.allclose(plain[0].error_map, raw[0]) and plain[0].maps["error"].between == RAW_RANGE
    explainer.levels = ErrorLevels(torch.zeros(64, 64), torch.ones(64, 64))
    assert np.allclose(explainer.explain(grey)[0].error_map, raw[0])


def test_other_training_images_are_not_taken_for_those_of_the_model(run, tmp_path, caplog):
    shutil.copytree(run.data, tmp_path / "data", ignore=shutil.ignore_patterns(".salad_cache", "val"))
    first = min((tmp_path / "data/train/0.normal").iterdir())
    first.rename(first.with_stem("another"))
    with caplog.at_level(logging.INFO, logger="salad"):
        _, found, _ = explained(run, data_path=tmp_path / "data")
    assert "no memory maps: the model was trained on 8 images (digest" in caplog.text
    assert "error maps are not standardized" in caplog.text
    assert list(found[0].maps) == ["error"] and not found[0].maps["error"].is_standardized
    assert {n.name for n in found[0].neighbours}.issubset({f"row {i}" for i in range(0, 16, 2)})
    assert found[0].neighbours[0].pixels is None


def test_without_training_images(run, tmp_path, caplog):
    shutil.copytree(run.data, tmp_path / "data", ignore=shutil.ignore_patterns(".salad_cache", "train"))
    with caplog.at_level(logging.INFO, logger="salad"):
        _, found, _ = explained(run, data_path=tmp_path / "data")
    assert "no memory maps: the training images are not available" in caplog.text
    assert found[0].memory_map is None and found[0].maps["error"].is_standardized


def test_only_the_images_that_are_needed_are_read(run, monkeypatch, tmp_path):
    """Out of the cache where there is one; and each once, however many images are near to it."""
    read = []
    decode = decoder.Decoder.read
    monkeypatch.setattr(decoder.Decoder, "read", lambda self, sample: read.append(sample.name) or decode(self, sample))
    explained(run)
    assert not [name for name in read if name.startswith("train")]
    explainer, found, _ = explained(run, cache="off")
    read.clear()
    explainer.explain(pixels_of(found))
    needed = {neighbour.name for one in found for neighbour in one.neighbours}
    assert sorted(read) == sorted(needed)


def test_images_that_the_training_skipped(run, tmp_path):
    shutil.copytree(run.data, tmp_path / "data", ignore=shutil.ignore_patterns(".salad_cache"))
    (tmp_path / "data/train/0.normal/aaa.png").write_bytes(b"no image")
    train(tmp_path / "xp", tmp_path / "data", "--on_bad_image", "skip")
    _, found, _ = explained(run, xp=tmp_path / "xp", data_path=tmp_path / "data")
    assert found[0].memory_map is not None
