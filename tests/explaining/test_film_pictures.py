"""The pictures of new films that predict draws."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import invoke, train

from salad.cli import main
from salad.datasets import phantom
from salad.explaining.overlays import make_picture_name


@pytest.mark.trains
def test_each_film_that_can_be_read_has_a_picture(tmp_path):
    phantom.write_phantom(tmp_path / "data", size=64, num_train=8, num_val=10, num_test=2)
    train(tmp_path / "xp", tmp_path / "data", "--score", "local")
    films = sorted((tmp_path / "data/test").rglob("*.png"))
    (tmp_path / "cut.png").write_bytes(b"no image")
    given = "predict", "--load_model", tmp_path / "xp/model.tar", "--device", "cpu", "--heatmaps", tmp_path / "maps"

    result = invoke(main, *given, tmp_path / "cut.png", *films)

    assert result.exit_code == 0, result.stderr
    assert f"heatmaps: 4 pictures in {tmp_path / 'maps'}" in result.stderr
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {make_picture_name(path) for path in films}
    first = np.asarray(Image.open(tmp_path / "maps" / make_picture_name(films[0])))
    assert first.shape[1] > 2 * 384 and np.ptp(first[:, :, 0].astype(int) - first[:, :, 2]) > 50  # in colour
    other = invoke(main, *given, shutil.copy(films[0], tmp_path / "same.png"))
    assert other.exit_code == 0 and len([*(tmp_path / "maps").iterdir()]) == 5  # those of earlier runs stay


def test_pictures_of_different_films_have_different_names():
    plain = {"films/a.png": "films__a.png.png", "/data/b-1_2.dcm": "data__b-1_2.dcm.png"}
    assert {name: make_picture_name(Path(name)) for name in plain} == plain
    names = [
        "a b.png",
        "a_b.png",
        "a\tb.png",
        "x/y.png",
        "x__y.png",
        "../x.png",
        ".x.png",
        "x.png",
        "é.png",
        "\udc80.png",
    ]
    names += [f"{'d' * 90}/{'e' * 90}{end}.png" for end in "12"]
    made = [make_picture_name(Path(name)) for name in names]
    assert len(set(made)) == len(names) and max(map(len, made)) < 140
    assert all(name[0] != "." and name.isascii() and "/" not in name and " " not in name for name in made)
