import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from salad.datasets import phantom
from salad.datasets.phantom import Exposure, draw_anatomy, draw_lesions, draw_radiograph, write_phantom
from salad.errors import InputError

FEW = {"size": 32, "num_train": 3, "num_val": 2, "num_test": 2}


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*.png"))}


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[list[Image.Image]]:
    """The default-size test split: [normal, abnormal]."""
    root = tmp_path_factory.mktemp("phantom") / "CXR_phantom"
    write_phantom(root, num_train=0, num_val=0)
    return [[Image.open(p) for p in sorted((root / "test" / c).iterdir())] for c in ("0.normal", "1.abnormal")]


def auc(films, statistic, size):
    values = [
        [statistic(np.asarray(film.resize((size, size), Image.Resampling.BILINEAR), float)) for film in group]
        for group in films
    ]
    return roc_auc_score(np.repeat([0, 1], 100), np.ravel(values))


def sharpness(film):
    inner = 4 * film[1:-1, 1:-1]
    return float((inner - film[:-2, 1:-1] - film[2:, 1:-1] - film[1:-1, :-2] - film[1:-1, 2:]).var())


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize(("statistic", "upper"), [(np.mean, 0.6), (np.std, 0.6), (sharpness, 0.65)])
def test_plain_statistics_do_not_separate_the_classes(films, statistic, upper, size):
    assert 1 - upper <= auc(films, statistic, size) <= upper


def test_statistics_vary_and_films_are_hardly_clipped(films):
    grey = np.array([[np.asarray(film) for film in group] for group in films])
    assert grey.shape == (2, 100, 128, 128)
    assert grey.mean((2, 3)).std(1).min() > 5  # else "AUC of the mean is 0.5" would be empty
    assert grey.std((2, 3)).std(1).min() > 1.5
    assert ((grey == 0) | (grey == 255)).mean() < 1e-3


def test_lesions_can_be_found_by_nearest_neighbours(films):
    def rows(group):
        x = np.array([np.asarray(f.resize((64, 64), Image.Resampling.BILINEAR), float).ravel() for f in group])
        return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)

    train = rows(Image.fromarray(draw_radiograph(rng(5, i), size=128, abnormal=False)) for i in range(200))
    test = np.concatenate([rows(group) for group in films])
    squares = (test**2).sum(1)[:, None] + (train**2).sum(1) - 2 * test @ train.T
    scores = np.sort(squares, axis=1)[:, :5].mean(1)
    assert 0.7 < roc_auc_score(np.repeat([0, 1], 100), scores) < 0.98  # learnable, not trivial


@pytest.mark.parametrize("seed", range(10))
def test_lesions_lie_in_the_lungs_and_nowhere_else(seed):
    exposure = Exposure(mean=120, std=40, grain=5)
    normal, abnormal = (draw_radiograph(rng(seed), size=128, abnormal=a, exposure=exposure) for a in (False, True))
    keys = rng(seed).integers(2**63, size=4)
    lungs = draw_anatomy(np.random.default_rng(int(keys[0])), size=128).lungs
    outside, inside = lungs < 1e-3, lungs > 0.9
    assert 0.08 < inside.mean() < 0.5
    # Same patient, same grain: outside the lungs the two films agree but for the window.
    slope, offset = np.polyfit(normal[outside], abnormal[outside], 1)
    added = abnormal - (slope * normal + offset)
    assert np.abs(added[outside]).max() < exposure.grain
    assert added[inside].max() > 3 * exposure.grain
    assert added[inside].min() > -exposure.grain  # lesions are dense, never dark


@pytest.mark.parametrize("kind", ["_nodule", "_consolidation", "_effusion"])
def test_every_kind_of_lesion_is_seen(kind):
    for seed in range(30):
        anatomy = draw_anatomy(rng(seed), size=64)
        opacity = getattr(phantom, kind)(rng(seed, 1), anatomy)
        assert opacity.min() >= 0 and opacity.max() <= 1
        assert ((opacity * anatomy.lungs) > 0.2).sum() >= 5


def test_lesions_differ_in_number_and_place():
    anatomy = draw_anatomy(rng(0), size=64)
    added = np.array([draw_lesions(rng(seed), anatomy) for seed in range(40)])
    assert (added[:, anatomy.lungs == 0] == 0).all()
    assert (added.max(0)[anatomy.lungs > 0.95] > 0.1).mean() > 0.8  # no corner of the lungs is safe


def test_chest_looks_like_a_chest():
    film = np.mean([draw_radiograph(rng(9, i), size=64, abnormal=False) for i in range(30)], axis=0)
    lung_right, lung_left, mediastinum, heart = film[24, 18], film[24, 46], film[24, 32], film[42, 37]
    assert max(lung_right, lung_left) + 30 < min(mediastinum, heart)
    assert film[2, 2] + 30 < film[60, 32]  # air beside the neck, abdomen below the lungs


def test_equal_generators_draw_equal_films():
    generator = rng(3)
    twin = copy.deepcopy(generator)
    first, second = (draw_radiograph(generator, size=64, abnormal=True) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == (64, 64)
    assert not np.array_equal(first, second)
    draw_radiograph(twin, size=32, abnormal=False)  # size and class do not change what comes next
    assert np.array_equal(second, draw_radiograph(twin, size=64, abnormal=True))


def test_patient_is_the_same_at_every_size():
    exposure = Exposure(mean=120, std=40, grain=1)
    small, large = (draw_radiograph(rng(4), size=s, abnormal=False, exposure=exposure) for s in (64, 128))
    halved = large.reshape(64, 2, 64, 2).mean((1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.98


def test_layout_and_counts(tmp_path):
    write_phantom(tmp_path / "a" / "b", **FEW)
    expected = [f"train/0.normal/000{i}.png" for i in range(3)]
    expected += [f"{s}/{c}/000{i}.png" for s in ("val", "test") for c in phantom.CLASSES for i in range(2)]
    assert sorted(contents(tmp_path / "a" / "b")) == sorted(expected)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]  # nothing left beside it
    with Image.open(tmp_path / "a" / "b" / expected[0]) as film:
        assert film.mode == "L" and film.size == (32, 32)


def test_same_arguments_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_phantom(tmp_path / name, seed=seed, **FEW)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert not set(first.values()) & set(other.values())
    assert len(set(first.values())) == len(first)  # no film twice


def test_a_file_does_not_depend_on_the_others(tmp_path):
    write_phantom(tmp_path / "few", **FEW)
    write_phantom(tmp_path / "more", size=32, num_train=5, num_val=3, num_test=4)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert few.items() < more.items()


def test_every_film_has_its_own_patient_and_shares_only_the_exposure(tmp_path):
    write_phantom(tmp_path / "a", seed=7, **FEW)
    for split, label, index in ((0, 0, 2), (1, 1, 0), (2, 0, 1), (2, 1, 1)):
        exposure = phantom.draw_exposure(rng(7, split, 2, index))
        film = draw_radiograph(rng(7, split, label, index), size=32, abnormal=label == 1, exposure=exposure)
        path = tmp_path / "a" / phantom.SPLITS[split] / phantom.CLASSES[label] / f"000{index}.png"
        assert np.array_equal(np.asarray(Image.open(path)), film)


def test_empty_folder_and_gitkeep_are_fine(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".gitkeep").touch()
    for name in "ab":
        write_phantom(tmp_path / name, **FEW)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "b" / ".gitkeep").exists()


def test_full_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_phantom(tmp_path, **FEW)
    with pytest.raises(InputError, match="not empty"):
        write_phantom(tmp_path / "notes.txt", **FEW)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("wrong", [{"size": 16}, {"seed": -1}, {"num_test": -1}])
def test_numbers_out_of_range(tmp_path, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        write_phantom(tmp_path / "a", **FEW | wrong)
    assert not list(tmp_path.iterdir())


def test_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    draw, calls = draw_radiograph, []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return draw(*args, **options)

    monkeypatch.setattr(phantom, "draw_radiograph", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "a", **FEW)
    assert not list(tmp_path.iterdir())


def test_killed_run_does_no_harm(tmp_path):
    script = (
        "import os, sys; from pathlib import Path;from salad.datasets import phantom\n"
        "Path.rename = lambda partial, root: os._exit(9)\n"  # as if killed just before the rename
        "phantom.write_phantom(Path(sys.argv[1]), size=32, num_train=3, num_val=2, num_test=2)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], check=False)
    assert done.returncode == 9
    leftovers = list(tmp_path.iterdir())
    assert len(leftovers) == 1 and leftovers[0].name.startswith(".a.")
    write_phantom(tmp_path / "a", **FEW)
    write_phantom(tmp_path / "clean", **FEW)
    assert contents(tmp_path / "a") == contents(tmp_path / "clean")


@pytest.mark.parametrize("same", [True, False])
def test_loser_of_a_race_keeps_the_winners_folder(tmp_path, monkeypatch, same):
    rename = Path.rename

    def overtaken(partial, root):
        monkeypatch.setattr(Path, "rename", rename)
        write_phantom(root, **FEW | ({} if same else {"num_val": 1}))
        for film in root.rglob("*.png"):
            film.write_bytes(b"winner")
        return rename(partial, root)

    monkeypatch.setattr(Path, "rename", overtaken)
    if same:
        write_phantom(tmp_path / "a", **FEW)
    else:
        with pytest.raises(OSError, match="not empty"):
            write_phantom(tmp_path / "a", **FEW)
    assert set(contents(tmp_path / "a").values()) == {b"winner"}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_import_is_light():
    heavy = "('torch', 'scipy', 'sklearn')"
    code = f"import sys, salad.datasets.phantom; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
