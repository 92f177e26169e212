"""Maps and neighbours of scores with a patch memory, and the page of a model without trained embeddings."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from browsing import browser, keep, opened
from PIL import Image
from running import invoke, read_csv, read_json, score, train
from tiny_backbone import TinyBackbone, tiny_networks

from salad import Detector
from salad.cli import main
from salad.datasets import phantom
from salad.images.read import read_image
from salad.networks.anomaly_head import AnomalyHead
from salad.patch_memory import PatchMaps
from salad.report.captions import words
from salad.scores.inputs import to_images

pytestmark = pytest.mark.trains

WITH_BACKBONE = ["--backbone", "efficientnet_lite0"]
# As --recipe strong does it, without the fit of --align: the network sees 64 of 80 pixels, the backbone all.
ONLY_LOCAL = ["--w_syn", 1, "--w_rec", 0, "--w_svdd", 0, "--w_contrast", 0, "--crop", 0.8, "--n_epochs", 2]
SIDES = {"local": 64, "backbone": 80, "fused": 64}


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny_networks():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Nine normal films to train on, ten of each class to validate and three of each to score, with marks."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=64, num_train=9, num_val=10, num_test=3)
    for path in (root / "test/1.abnormal").iterdir():
        mask = np.zeros((64, 64), np.uint8)
        mask[:16, :16] = 1
        target = root / "masks" / path.relative_to(root).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A run of the fused score; the other two are parts of it."""
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data, *ONLY_LOCAL, "--score", "fused", *WITH_BACKBONE)
    return xp


@pytest.fixture(scope="module")
def detectors(run) -> dict[str, Detector]:
    return {name: Detector.load(run / "model.tar", score=name, device="cpu") for name in SIDES}


def whole(data: Path, pattern: str) -> tuple[list[Path], torch.Tensor]:
    """Files, and their pixels as decoded, (N, 1, 80, 80)."""
    paths = sorted(data.glob(pattern))
    return paths, torch.from_numpy(np.stack([read_image(path, isize=80, resize="squash") for path in paths]))[:, None]


@torch.no_grad()
def features_of(detector: Detector, part: str, grey: torch.Tensor) -> torch.Tensor:
    if part == "backbone":
        return TinyBackbone().patch_features(to_images(grey))
    return detector.scorer_.model.network.patch_features(to_images(grey[:, :, 8:72, 8:72]))


@pytest.mark.parametrize("name", SIDES)
def test_the_map_is_that_of_the_model_file_in_the_frame_of_the_score(detectors, data, name):
    """A model of the fused score holds the map of its own features; the backbone alone is shown on its coarse grid."""
    paths, grey = whole(data, "test/*/*.png")
    found = [detectors[name].explain(path).score_map for path in paths]
    if name == "backbone":
        expected = coarse(detectors[name], "backbone", grey, whole(data, "val/0*/*.png")[1])
    else:
        checkpoint, network = detectors[name].scorer_.checkpoint, detectors[name].scorer_.model.network
        head = AnomalyHead(network.num_patch_channels)
        head.load_state_dict(checkpoint.training["head"])
        features = features_of(detectors[name], "local", grey)
        distance = checkpoint.memories["map"].distances(PatchMaps(features))
        logits = F.interpolate(head.places(features), size=(16, 16), mode="bilinear")[:, 0]
        levels = checkpoint.training["map"]["levels"]
        pairs = ((distance, *levels["distance"]), (logits, *levels["head"]))
        far, marked = ((values - mean) / std for values, mean, std in pairs)
        grid = ((far + 2 * marked) / 3)[:, None]
        grid = F.avg_pool2d(F.pad(grid, (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0].clamp(min=0)
        expected = F.interpolate(grid[:, None], size=64, mode="bicubic")[:, 0].clamp(min=0).detach()

    assert np.stack([one.values for one in found]) == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-3)
    inner = grey if name == "backbone" else grey[:, :, 8:72, 8:72]
    assert np.array_equal(np.stack([one.pixels for one in found]), inner[:, 0].numpy())
    assert np.array_equal(np.stack([one.film for one in found]), grey[:, 0].numpy())
    assert {(one.normals, one.specificity) for one in found} == {("validation", 0.95)}
    assert found[0].overlay.shape == (SIDES[name], SIDES[name], 3) and found[0].film_values.shape == (80, 80)
    assert found[0].values.std() > 0.1 and found[0].threshold > 0


@torch.no_grad()
def coarse(detector: Detector, part: str, grey: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
    """The map of the memory of a score alone, on one scale of all places: (N, S, S)."""
    memory = detector.scorer_.checkpoint.memories[part].plain()
    of_normals, grid = (memory.distances(PatchMaps(features_of(detector, part, one))) for one in (normals, grey))
    standard = ((grid - of_normals.mean()) / of_normals.std()).clamp(min=0)
    return F.interpolate(standard[:, None], size=SIDES[part], mode="bicubic")[:, 0].clamp(min=0)


def older(run: Path, tmp_path: Path) -> Path:
    """The model as an earlier release wrote it, without a map."""
    content = torch.load(run / "model.tar", weights_only=True)
    del content["map"], content["local_memories"]["map"]
    torch.save(content, tmp_path / "model.tar")
    return tmp_path / "model.tar"


@pytest.mark.parametrize("name", SIDES)
def test_neighbours_are_those_nearest_by_the_score(detectors, data, name):
    detector = detectors[name]
    (path, *_), grey = whole(data, "test/1*/*.png")
    normals, pixels = whole(data, "train/0*/*.png")
    far = {}
    for part in ("local", "backbone") if name == "fused" else (name,):
        memory = detector.scorer_.checkpoint.memories[part]
        (query,), rows = (
            torch.nn.functional.adaptive_avg_pool2d(features_of(detector, part, one), 3).flatten(2).mT
            for one in (grey[:1], pixels)
        )
        mean, std = detector.scorer_.model.standards.of[part] if name == "fused" else (0, 1)
        far[part] = (((query - rows) @ memory.whitening).norm(dim=2).mean(dim=1) - mean) / std
    expected = torch.stack([*far.values()]).mean(dim=0)

    found = detector.explain(path).neighbours

    order = expected.argsort()[:5].tolist()
    assert [one.distance for one in found] == pytest.approx(expected[order].tolist(), rel=1e-2, abs=1e-2)
    assert [one.name for one in found] == [str(normals[i].relative_to(data)) for i in order]
    assert not any(one.is_angle for one in found)
    inner = pixels if name == "backbone" else pixels[:, :, 8:72, 8:72]
    assert np.array_equal(found[0].pixels, inner[order[0], 0].numpy())
    itself = detector.explain(normals[0])
    assert itself.neighbours[0].name == str(normals[0].relative_to(data))
    assert itself.neighbours[0].distance < itself.neighbours[1].distance


def test_what_no_loss_has_trained_is_not_shown(detectors, data):
    found = detectors["fused"].explain(next(data.glob("test/1*/*.png")))

    assert list(found.maps) == ["score"] and found.recon is None
    for part in (found, found.maps["score"], found.neighbours[0]):
        assert [name for name, value in vars(part).items() if value is None] == []
    assert found.score == pytest.approx(np.mean([*found.parts.values()])) and list(found.parts) == ["local", "backbone"]
    assert len(found.neighbours) == 5


def test_what_losses_have_trained_is_shown_beside_the_map(data, tmp_path):
    train(tmp_path, data, "--score", "local")
    film = next(data.glob("test/1*/*.png"))

    found = Detector.load(tmp_path / "model.tar", device="cpu").explain(film)
    assert found.recon.shape == found.error_map.shape == found.score_map.values.shape == (64, 64)
    assert found.memory_map is None and found.neighbours[0].distance > 0
    by_angle = Detector.load(tmp_path / "model.tar", score="knn", device="cpu").explain(film)
    assert by_angle.score_map is None and by_angle.memory_map is not None and by_angle.neighbours[0].is_angle


def test_a_score_of_what_is_not_trained_is_warned_of_and_has_no_neighbours(run, data, caplog):
    for name in ("knn", "reconstruction"):
        with caplog.at_level(logging.WARNING, logger="salad"):
            found = Detector.load(run / "last.tar", score=name, device="cpu").explain(next(data.glob("test/1*/*.png")))
        assert found.score_map is None and found.memory_map is None and found.neighbours == ()
    assert "the score knn is meaningless: no loss has trained the embeddings" in caplog.text
    assert "the score reconstruction is meaningless: no loss has trained the reconstruction" in caplog.text


def test_of_more_images_than_rows_there_are_maps_but_no_neighbours(run, data):
    detector = Detector.load(run / "model.tar", score="local", local_rows=5, device="cpu")

    found = detector.explain(next(data.glob("test/1*/*.png")))

    assert found.score_map is not None and found.neighbours == ()
    config, checkpoint = detector.scorer_.config, detector.scorer_.checkpoint
    said = words(config, checkpoint, details=[SimpleNamespace(scales={})], k=None)["no_neighbours"]
    assert said.startswith("No neighbours: with more images than --local_rows")


def test_the_map_of_an_older_file_is_scaled_by_validation_normals_or_by_its_memory(run, data, tmp_path):
    path, (films, grey) = older(run, tmp_path), whole(data, "test/0*/*.png")
    detector = Detector.load(path, score="local", device="cpu")
    assert detector.explain(films[0]).score_map.normals == "validation"

    shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("val", ".salad_cache"))
    detector = Detector.load(path, score="local", device="cpu")
    object.__setattr__(detector.scorer_.config.data, "data_path", tmp_path / "data")
    found = detector.explain(films[0]).score_map

    memory = detector.scorer_.checkpoint.memories["local"].plain()
    own, grid = memory.own_distances(most=9), memory.distances(PatchMaps(features_of(detector, "local", grey[:1])))
    standard = ((grid - own.mean()) / own.std()).clamp(min=0)
    expected = F.interpolate(standard[:, None], size=64, mode="bicubic")[0, 0].clamp(min=0)
    assert found.normals == "training"
    assert found.values == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-3)


def test_the_threshold_is_what_so_many_validation_normals_stay_below(run, data):
    films, _ = whole(data, "val/0*/*.png")
    detector = Detector.load(run / "model.tar", score="local", specificity=0.8, device="cpu")
    maps = [detector.explain(film).score_map for film in films]
    peaks = sorted(one.values.max() for one in maps)
    assert maps[0].threshold == pytest.approx(peaks[7], rel=1e-4)  # 8 of 10 lie at or below it


# The page and the pictures ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(run, data, tmp_path_factory) -> Path:
    xp = tmp_path_factory.mktemp("scored") / "xp"
    shutil.copytree(run, xp)
    score(xp, data, "--report", "--heatmaps", xp / "maps")
    return xp


def test_the_page_shows_the_map_of_the_score_and_leaves_out_what_is_not_trained(scored, tmp_path):
    with browser() as chromium, opened(chromium, scored / "report.html") as page:
        said = "Left out, because no loss has trained this network for them: reconstructions and error maps."
        assert page.locator("#untrained").inner_text() == said
        assert page.locator("#map h2").inner_text() == "Map of patch features"
        assert page.get_by_role("link", name="Map").count() == 1 and page.locator("#plane .point").count() == 6
        courses = page.locator("#history .title").all_text_contents()
        assert courses == ["Loss, weighted sum", "Loss of synthetic anomalies", "Validation AUC"]
        assert page.locator(".card").first.locator("img").count() == 2
        keep(page, "local", tmp_path)
        page.locator(".card").first.click()
        titles = page.locator(".views figcaption").all_inner_texts()
        assert titles[0] == "Whole film" and len(titles) == 2
        assert titles[1].startswith("Unlike normal images (local), in SD; line at")
        layer, slider = page.locator(".film .layer"), page.locator(".opacity input")
        assert layer.evaluate("one => getComputedStyle(one).opacity") == "1"
        slider.fill("0")
        assert layer.evaluate("one => getComputedStyle(one).opacity") == "0"
        slider.press("ArrowRight")  # moves the slider, not on to the next image
        assert page.locator("#detail-place").inner_text().startswith("1 of")
        width = page.locator(".film").bounding_box()["width"]
        page.locator(".film").click()
        assert page.locator(".film").bounding_box()["width"] > width
        assert "SD above normal" in page.locator(".sentence").inner_text()
        assert page.locator(".places tbody tr").count() == page.locator(".film .spot").count() >= 1
        far = [float(text.split()[0]) for text in page.locator(".neighbours p").all_inner_texts()]
        assert far == sorted(far) and len(far) == 5
        assert "of its parts local and backbone" in page.locator("#detail .caption").inner_text()
        keep(page, "local_detail", tmp_path, full_page=False)


def test_the_page_names_the_grid_that_was_compared(scored):
    text = (scored / "report.html").read_text(encoding="utf-8")

    assert "fused of local, backbone, 3 x 3 grid cells" in text
    assert "embeddings of" not in text


def test_pictures_show_the_map_of_the_score_alone(scored, data, run, tmp_path):
    with Image.open(next((scored / "maps").glob("*.png"))) as picture:
        assert 2 * 384 < picture.width < 3 * 384
    found = read_json(scored / "metrics.json")["localisation"]
    assert found["score_map"]["pointing_game"]["of"] == 3
    assert "error_map" not in found and "memory_map" not in found
    by_backbone = ["--load_model", run / "model.tar", "--score", "backbone", "--heatmaps", tmp_path / "maps"]
    score(tmp_path, data, *by_backbone)
    shares = [read_json(xp / "metrics.json")["localisation"]["pointing_game_by_chance"] for xp in (tmp_path, scored)]
    assert shares[0] == pytest.approx(1 / 16)  # a quarter of each side, with nothing cut off
    assert shares[1] == pytest.approx((12 / 64) ** 2, rel=0.2)  # 8 of 80 pixels of it cut off


def test_new_images_are_scored_without_a_word_about_embeddings(run, data, tmp_path):
    paths = sorted(data.glob("test/*/*.png"))
    result = invoke(main, "predict", *paths, "--load_model", run / "model.tar", "--device", "cpu")

    assert result.exit_code == 0 and "6 images in" in result.stderr
    assert "embeddings" not in result.stderr + result.stdout
    expected = Detector.load(run / "model.tar", device="cpu").score(paths)
    (tmp_path / "new.csv").write_text(result.stdout)
    assert [float(row["score"]) for row in read_csv(tmp_path / "new.csv")] == pytest.approx(expected, rel=1e-5)
