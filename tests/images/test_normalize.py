"""Normalisation of grey levels: against plain twins, and where in the programs it happens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from running import CPU, assert_same_scores, invoke, read_json, read_tar, refuse_test, score, train

from salad import cli
from salad.datasets.loader import Loader
from salad.images.normalize import CLIP_LIMIT, normalize
from salad.images.preprocessing import Preprocessing
from salad.scores import inputs

pytestmark = pytest.mark.trains

seeds = st.integers(0, 2**32 - 1)


def draw(seed, *, count=2, side=24):
    """Smooth images of different brightness and contrast, (B, 1, S, S)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    images = [
        rng.uniform(0, 150) + rng.uniform(5, 100) * np.sin(rng.uniform(1, 9) * x + rng.uniform(1, 9) * y) ** 2
        for _ in range(count)
    ]
    noise = rng.integers(0, 4, (count, side, side))
    return torch.from_numpy((np.stack(images) + noise).clip(0, 255).astype(np.uint8))[:, None]


def test_fixed_changes_nothing():
    grey = draw(0)
    assert normalize(grey, "fixed") is grey


# standardize ------------------------------------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_standardize_is_what_it_says(seed):
    grey = draw(seed)
    found = normalize(grey, "standardize")
    assert found.dtype == torch.uint8 and found.shape == grey.shape
    for before, after in zip(grey[:, 0].double().numpy(), found[:, 0].numpy(), strict=True):
        deviations = (before - before.mean()) / before.std()
        expected = np.clip(deviations / 3, -1, 1) * 127.5 + 127.5  # -3 is black, 3 is white
        assert np.abs(after - expected).max() <= 0.51


def test_standardize_undoes_brightness_and_contrast():
    grey = draw(3, count=1) // 4
    changed = grey * 2 + 40
    assert (normalize(grey, "standardize").int() - normalize(changed, "standardize").int()).abs().max() <= 1


def test_images_are_standardized_each_on_its_own():
    grey = draw(4, count=3)
    alone = torch.cat([normalize(one[None], "standardize") for one in grey])
    assert torch.equal(normalize(grey, "standardize"), alone)


def test_what_lies_far_from_the_mean_is_cut():
    grey = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    grey[0, 0, 0, 0] = 255  # (1 - 1/400) / sqrt(1/400 - 1/400²) = 20 deviations above
    found = normalize(grey, "standardize")
    assert found.max() == 255 and found.float().median() in (125, 126)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_an_image_of_one_level_becomes_medium_grey(level):
    grey = torch.full((1, 1, 8, 8), level, dtype=torch.uint8)
    assert (normalize(grey, "standardize") == 128).all()


# clahe ------------------------------------------------------------------------------------------------------------


def clahe_twin(image: np.ndarray, *, num_tiles: int = 8) -> np.ndarray:
    """Pixel by pixel."""
    side = len(image)
    tile = [i * num_tiles // side for i in range(side)]
    curves = np.zeros((num_tiles, num_tiles, 256))
    for row in range(num_tiles):
        for column in range(num_tiles):
            rows, columns = ([i for i in range(side) if tile[i] == which] for which in (row, column))
            counts = np.bincount(image[np.ix_(rows, columns)].ravel(), minlength=256).astype(float)
            area = counts.sum()
            limit = max(1, CLIP_LIMIT * area / 256)
            excess = np.maximum(counts - limit, 0).sum()
            curves[row, column] = np.cumsum(np.minimum(counts, limit) + excess / 256) * 255 / area
    found = np.zeros(image.shape)
    for i in range(side):
        for j in range(side):
            y, x = (min(max((k + 0.5) * num_tiles / side - 0.5, 0), num_tiles - 1) for k in (i, j))
            top, left = int(y), int(x)
            bottom, right = min(top + 1, num_tiles - 1), min(left + 1, num_tiles - 1)
            level, down, across = image[i, j], y - top, x - left
            above = curves[top, left, level] * (1 - across) + curves[top, right, level] * across
            below = curves[bottom, left, level] * (1 - across) + curves[bottom, right, level] * across
            found[i, j] = above * (1 - down) + below * down
    return found


@pytest.mark.parametrize("side", [16, 24, 37])
def test_clahe_is_what_it_says(side):
    grey = draw(5, side=side)
    found = normalize(grey, "clahe")
    assert found.dtype == torch.uint8 and found.shape == grey.shape
    for before, after in zip(grey[:, 0].numpy(), found[:, 0].numpy(), strict=True):
        assert np.abs(after - clahe_twin(before)).max() <= 0.51


def test_clahe_raises_weak_contrast_and_bounds_it():
    grey = 100 + draw(6, side=128, count=1) // 16
    found = normalize(grey, "clahe")
    gain = found.float().std() / grey.float().std()
    assert 1.2 < gain < 4  # a plain equalisation: 10 and more
    assert found.float().mean() == pytest.approx(grey.float().mean(), abs=25)


@pytest.mark.parametrize("side", [1, 5, 8])
@pytest.mark.parametrize("kind", ["fixed", "standardize", "clahe"])
def test_small_and_constant_images(kind, side):
    for grey in (draw(7, side=side), torch.full((3, 1, side, side), 90, dtype=torch.uint8)):
        found = normalize(grey, kind)
        assert found.shape == grey.shape and found.dtype == torch.uint8


def test_clahe_of_a_batch_is_that_of_its_images():
    grey = draw(8, count=3)
    assert torch.equal(normalize(grey, "clahe"), torch.cat([normalize(one[None], "clahe") for one in grey]))


# In the programs --------------------------------------------------------------------------------------------------


class Fixed:
    """Images of given pixels."""

    def __init__(self, grey):
        self.grey, self.isize = grey[:, 0].numpy(), grey.shape[-1]

    def __len__(self):
        return len(self.grey)

    def read(self, index, out):
        out[:] = self.grey[index]


@pytest.mark.parametrize("kind", ["fixed", "standardize", "clahe"])
@pytest.mark.parametrize("num_threads", [0, 2])
def test_a_batch_has_the_levels_of_the_files_and_the_normalised_ones(kind, num_threads):
    grey = draw(9, count=5)
    (batch,) = Loader(Fixed(grey), batch_size=5, num_threads=num_threads, preprocessing=Preprocessing(kind=kind)).epoch(
        0
    )
    assert torch.equal(batch.grey, grey)
    assert torch.equal(batch.normalized(CPU), normalize(grey, kind))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """A training and a test of every kind, on the same images and the same cache."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in ("fixed", "standardize", "clahe"):
        train(folder / kind, data, "--normalize", kind)
        score(folder / kind, data)
    return folder


def test_baselines_are_those_of_the_files(runs):
    found = [read_json(runs / kind / "metrics.json")["baseline_auc"] for kind in ("fixed", "standardize", "clahe")]
    assert found[0] == found[1] == found[2]


def test_kinds_share_a_cache(runs, data):
    assert sorted(path.suffix for path in (data / ".salad_cache").iterdir()) == ["", ".json", ".json", ".u8", ".u8"]


def test_kinds_train_and_score_differently(runs):
    weights = [read_tar(runs / kind / "model.tar")["memory_state_dict"]["memory"] for kind in ("fixed", "standardize")]
    assert not torch.allclose(*weights)
    assert len({(runs / kind / "scores.csv").read_bytes() for kind in ("fixed", "standardize", "clahe")}) == 3


def test_scoring_normalises_as_the_training_did(runs, data, tmp_path, monkeypatch):
    seen = []
    images = inputs.to_images
    monkeypatch.setattr(inputs, "to_images", lambda grey: seen.append(grey) or images(grey))
    model = ["--load_model", runs / "standardize/model.tar"]
    score(tmp_path, data, *model)
    assert_same_scores(tmp_path, runs / "standardize")
    assert torch.cat(seen).double().mean() == pytest.approx(127.5, abs=4)
    line = refuse_test(tmp_path, data, *model, "--normalize", "fixed")
    assert "--normalize is fixed" in line and "trained with standardize" in line
    score(tmp_path, data, *model, "--normalize", "standardize")


def test_trimming_is_recorded_too(data, tmp_path):
    train(tmp_path, data, "--trim")
    score(tmp_path, data)
    assert "trim" in "".join(path.name for path in (data / ".salad_cache").iterdir())
    line = refuse_test(tmp_path, data, "--no_trim")
    assert "--trim is False" in line and "trained with True" in line


def test_a_checkpoint_that_names_neither_means_fixed_and_untrimmed(runs, data, tmp_path):
    content = read_tar(runs / "fixed/model.tar")
    for name in ("normalize", "trim"):
        del content["config"][name]
    torch.save(content, tmp_path / "old.tar")
    model = ["--load_model", tmp_path / "old.tar"]
    score(tmp_path / "xp", data, *model)
    assert_same_scores(tmp_path / "xp", runs / "fixed")
    assert "--normalize is clahe" in refuse_test(tmp_path / "xp", data, *model, "--normalize", "clahe")
    assert "--trim is True" in refuse_test(tmp_path / "xp", data, *model, "--trim")


def test_a_resumed_run_keeps_its_kind(runs, data):
    words = ["CXR_author", "unet", runs / "clahe", data, "--resume", "--normalize", "fixed"]
    result = invoke(cli.train, *words)
    assert result.exit_code == 2 and "--normalize is fixed, but the run" in result.stderr
