"""`--crop` and `--align` in the programs: recorded, the same wherever an image is looked at, bit by bit resumed."""

import csv
import io
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import (
    CPU,
    SHORT,
    TINY,
    interrupt_after,
    invoke,
    read_csv,
    read_json,
    read_tar,
    refuse_test,
    same,
    score,
    stopped,
    tiny_unet,
    train,
)

from salad import Detector, cli
from salad.build import RunContext
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.config import Config
from salad.datasets import phantom, read_split
from salad.distributed.team import Team
from salad.errors import InputError
from salad.explaining.make import make_explainer
from salad.images import align
from salad.images.decoder import Decoder
from salad.samples import NORMAL, Sample
from salad.scoring.model import ScoringModel
from salad.scoring.options import reconcile
from salad.training import template
from salad.training.template import make_template

pytestmark = [pytest.mark.slow, pytest.mark.trains]

OPTIONS = [
    "--align",
    "--crop",
    0.7,
    "--normalize",
    "standardize",
    "--ans_select_rate",
    0.5,
    "--n_epochs",
    5,
    "--lr",
    1e-5,
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten normal films to train on, and four and three of each class in val/ and test/."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=80, num_train=10, num_val=4, num_test=3)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    xp = tmp_path_factory.mktemp("framed") / "xp"
    train(xp, data, *OPTIONS)
    score(xp, data)
    return xp


def config_of(data, **values):
    paths = {"xp_path": Path("xp"), "data_path": data}
    return Config.of(
        {"dataset_name": "CXR_author", "net_name": "unet", **paths, **{"isize": 64, "align": True, **values}}
    )


def scanned(config, name="train"):
    split = read_split("CXR_author", config.data.data_path, name, selection=config.data.selection)
    return context_of(config).scan({name: split})[name]


def context_of(config, **facts):
    return RunContext(config=config, device=CPU, **facts)


def test_the_template_lies_on_the_device_before_the_first_batch():
    template = torch.zeros(1, 1, align.SIDE, align.SIDE)
    context = RunContext(config=config_of(Path()), device=torch.device("meta"), template=template)
    assert context.preprocessing.template.is_meta


# Crop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("isize", "crop", "margin"), [(256, 1.0, 0), (64, 0.7, 14), (64, 0.5, 32), (256, 0.999, 0), (256, 0.8, 32)]
)
def test_images_are_decoded_larger_by_what_is_cut_off(isize, crop, margin):
    config = config_of(Path(), isize=isize, crop=crop)
    assert (config.images.margin, config.images.decoded_size) == (margin, isize + 2 * margin)
    assert isize / config.images.decoded_size == pytest.approx(crop, abs=1 / isize)


def test_the_crop_shows_the_very_middle_of_the_image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (92, 92), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    config = config_of(tmp_path, crop=0.7, align=False)
    grey = Decoder(isize=config.images.decoded_size, resize="squash").read(Sample(tmp_path / "a.png", "a", NORMAL))
    found = context_of(config).preprocessing(torch.tensor(grey)[None, None])
    assert np.array_equal(found[0, 0], pixels[14:-14, 14:-14])


def test_a_crop_of_nearly_nothing_is_refused():
    with pytest.raises(InputError, match=r"--crop is 0.001: .* 64,000 pixels a side, above 8,192"):
        config_of(Path(), crop=0.001)


# The mean image ---------------------------------------------------------------------------------------------------


def test_the_mean_is_of_normals_and_the_same_for_a_seed(data, monkeypatch):
    config = config_of(data, train_on="all", seed=5)
    split = scanned(config, "val")
    found = make_template(context_of(config), split)
    other_batches = config.changed(batch_size=3, n_jobs_dataloader=0)
    assert torch.equal(make_template(context_of(other_batches), split), found)
    normal = scanned(config, "val").only_normal()
    normal = context_of(config).scan({"val": normal})["val"]
    assert torch.allclose(make_template(context_of(config), normal), found, atol=1e-4)
    monkeypatch.setattr(template, "MAX_IMAGES", 2)
    fewer = make_template(context_of(config), split)
    assert torch.equal(make_template(context_of(other_batches), split), fewer)
    assert not torch.allclose(fewer, found, atol=1e-2)
    assert not torch.equal(make_template(context_of(config.changed(seed=6)), split), fewer)


def test_the_first_process_makes_the_mean_for_all(data):
    class Other(Team):
        def from_first(self, make):
            return "what the first one made"

    assert make_template(context_of(config_of(data), team=Other()), None) == "what the first one made"
    assert make_template(context_of(config_of(data, align=False), team=Other()), None) is None


# Runs -------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_what_images_are_aligned_to(run, data):
    content = read_tar(run / "model.tar")
    assert content["config"]["crop"] == 0.7 and content["config"]["align"] is True
    assert content["mean_image"].shape == (1, 1, align.SIDE, align.SIDE)
    config = Config.from_json(content["config"])
    split = context_of(config).scan({"train": read_split("CXR_author", data, "train", selection=config.data.selection)})
    assert torch.equal(make_template(context_of(config), split["train"]), content["mean_image"])


def test_options_change_the_scores_and_a_contradiction_is_refused(run, data, tmp_path):
    held = score(run, data)
    assert score(tmp_path / "same", data, "--load_model", run / "model.tar", *OPTIONS[:5]) == pytest.approx(
        held, abs=1e-5
    )
    content = read_tar(run / "model.tar")
    for name, value in (("crop", 1.0), ("align", False)):
        torch.save({**content, "config": {**content["config"], name: value}}, tmp_path / f"{name}.tar")
        assert score(tmp_path / name, data, "--load_model", tmp_path / f"{name}.tar") != pytest.approx(held, abs=1e-3)
    assert "--crop is 0.8, but" in refuse_test(run, data, "--crop", 0.8)
    line = refuse_test(run, data, "--no_align")
    assert "--align is False, but" in line and "trained with True: leave it out" in line


def test_a_checkpoint_without_a_mean_image_cannot_align(run, data, tmp_path):
    state = {name: value for name, value in read_tar(run / "model.tar").items() if name.endswith("_state_dict")}
    torch.save(state, tmp_path / "published.tar")
    words = ["--load_model", tmp_path / "published.tar", "--align"]
    assert "--align needs the template of the training" in refuse_test(tmp_path / "xp", data, *words)
    image = next((data / "test").rglob("*.png"))
    assert "--align needs the template" in stopped(invoke(main, "predict", *words, image))
    assert len(score(tmp_path / "xp", data, *words[:2], "--crop", 0.7)) == 6


def test_a_mean_image_of_another_size_is_refused(run, tmp_path):
    torch.save({**read_tar(run / "model.tar"), "mean_image": torch.zeros(1, 1, 8, 8)}, tmp_path / "odd.tar")
    with pytest.raises(InputError, match=r"mean_image has shape \(1, 1, 8, 8\)"):
        load_checkpoint(tmp_path / "odd.tar")


@pytest.mark.parametrize("num_steps", [3, 24])
def test_a_resumed_run_keeps_the_mean_and_ends_the_same(run, data, tmp_path, monkeypatch, num_steps):
    xp = tmp_path / "xp"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, num_steps)
        stopped(invoke(cli.train, "CXR_author", "unet", xp, data, *SHORT, *OPTIONS), status=128 + signal.SIGTERM)
    monkeypatch.setattr("salad.training.run.make_template", lambda *_, **__: pytest.fail("made anew"))
    assert "--align is False, but the run" in stopped(
        invoke(cli.train, "CXR_author", "unet", xp, data, "--resume", "--no_align")
    )
    result = invoke(cli.train, "CXR_author", "unet", xp, data, "--resume")
    assert result.exit_code == 0, result.stderr
    for name in ("model.tar", "last.tar"):
        ours, theirs = read_tar(xp / name), read_tar(run / name)
        del ours["config"]["xp_path"], theirs["config"]["xp_path"]
        assert not [key for key in theirs if not same(ours[key], theirs[key])]


def test_all_ways_to_score_agree(run, data, tmp_path):
    rows = read_csv(run / "scores.csv")
    files = [data / row["path"] for row in rows]
    held = np.array([float(row["score"]) for row in rows])
    for batch_size in (1, 4):
        words = ["--load_model", run / "model.tar", "--device", "cpu", "--batch_size", batch_size, *files]
        result = invoke(main, "predict", *words)
        assert result.exit_code == 0, result.stderr
        found = [float(row["score"]) for row in csv.DictReader(io.StringIO(result.stdout))]
        assert found == pytest.approx(held, abs=1e-5)
    with tiny_unet():
        detector = Detector.load(run / "model.tar", device="cpu")
        assert detector.get_params()["crop"] == 0.7 and detector.get_params()["align"] is True
        detector.save(tmp_path / "saved.tar")
        again = Detector.load(tmp_path / "saved.tar", device="cpu")
        assert again.score(files) == pytest.approx(held, abs=1e-5)
        arrays = [np.asarray(Image.open(file)) for file in files]
        assert again.score(arrays) == pytest.approx(held, abs=1e-5)
    assert np.ptp(held) > 1e-3


def test_explanations_show_what_the_network_sees(run, data):
    checkpoint = load_checkpoint(run / "model.tar")
    given = {"dataset_name": "CXR_author", "net_name": "unet", "xp_path": run, "data_path": data, "device": "cpu"}
    config = Config.of(reconcile(given, checkpoint))
    context = context_of(config, template=checkpoint.template)
    preprocess, decoder = context.preprocessing, Decoder(isize=92, resize="squash")
    with tiny_unet():
        explainer = make_explainer(ScoringModel.load(checkpoint, context), checkpoint)
        detector = Detector.load(run / "model.tar", device="cpu")
    sample = read_split("CXR_author", data, "test").samples[0]
    grey = torch.tensor(decoder.read(sample))[None, None]
    (found,) = explainer.explain(grey)
    assert np.array_equal(found.pixels, preprocess(grey)[0, 0])
    assert found.memory_map.shape == found.error_map.shape == (64, 64)
    near = found.neighbours[0]
    of_row = torch.tensor(decoder.read(Sample(data / near.name, near.name, NORMAL)))[None, None]
    assert np.array_equal(near.pixels, preprocess(of_row)[0, 0])
    assert np.array_equal(detector.explain(data / sample.name).pixels, found.pixels)


def test_a_detector_is_fitted_with_both(data):
    films = [np.asarray(Image.open(path)) for path in sorted((data / "train").rglob("*.png"))]
    with tiny_unet():
        options = {"isize": 64, "rep_dim": 8, "device": "cpu", "n_epochs": 1, "ans_select_rate": 1.0, "ans_size": 2}
        detector = Detector(**options, n_jobs_dataloader=0, crop=0.7, align=True).fit(films)
        assert detector.scorer_.model.context.preprocessing.template is not None
        assert np.isfinite(detector.score(films)).all()


def test_masks_are_framed_as_their_images(tmp_path):
    """Every abnormal film is white in its mask, so that the mask has to lie on the white of what the network sees."""
    data = tmp_path / "data"
    phantom.write_phantom(data, size=80, num_train=10, num_val=2, num_test=3)
    for number, path in enumerate(sorted((data / "test/1.abnormal").iterdir())):
        pixels = np.array(Image.open(path)) // 2
        shown = np.roll(pixels, (2 * number, 3), axis=(0, 1))
        shown[30:44, 20:34] = 255
        Image.fromarray(shown).save(path)
        mask = np.zeros_like(shown)
        mask[30:44, 20:34] = 1
        (data / "masks/test/1.abnormal").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(data / "masks/test/1.abnormal" / path.name)
    train(tmp_path / "xp", data, *OPTIONS[:5])
    compared = []
    with pytest.MonkeyPatch.context() as patch:
        from salad.explaining.overlays import draw

        def watch(found, **options):
            compared.append((found.pixels, options["mask"]))
            return draw(found, **options)

        patch.setattr("salad.explaining.locate.draw", watch)
        score(tmp_path / "xp", data, "--heatmaps", tmp_path / "maps")
    marked = [(pixels > 230, mask) for pixels, mask in compared if mask is not None]
    assert len(marked) == 3
    for white, mask in marked:
        assert mask.shape == (64, 64) and mask.sum() > 100
        assert (white & mask).sum() / (white | mask).sum() > 0.75
    assert read_json(tmp_path / "xp/metrics.json")["localisation"]["num_marked"] == 3


def test_the_report_says_how_images_are_framed(run, data):
    result = invoke(cli.test, "CXR_author", "unet", run, data, *TINY, "--report")
    assert result.exit_code == 0, result.stderr
    assert "standardize, squash, aligned, central 70 %" in (run / "report.html").read_text(encoding="utf-8")
