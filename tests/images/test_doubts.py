"""Films that show next to nothing are told from all others."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salad.images.decoder import Decoder
from salad.images.doubts import doubt_line, find_doubt
from salad.images.read import read_image
from salad.images.scan import scan
from salad.samples import Sample, Split

RAMP = np.tile(np.arange(64), (64, 1))
SPOT = np.pad(np.full((8, 8), 255), 28)


@pytest.mark.parametrize(
    ("levels", "doubt"),
    [
        (RAMP * 4, None),
        (60 + RAMP, None),
        (np.pad(RAMP[:32] * 2 + 60, ((16, 16), (0, 0))), None),  # black borders around a flat film
        (RAMP * 0, "nearly black"),
        (RAMP * 0 + 255, "nearly white"),
        (RAMP * 0 + 70, "constant"),
        (RAMP // 4, "nearly black"),
        (RAMP // 4 + 239, "nearly white"),
        (SPOT, "nearly black"),
        (255 - SPOT, "nearly white"),
        (RAMP // 4 + 100, "nearly constant"),
        (np.pad(RAMP[:32] * 0 + 120, ((16, 16), (0, 0))), "nearly constant"),
        ((RAMP > 30) * 255, "nearly all black or white"),
    ],
)
def test_doubts(levels, doubt):
    assert find_doubt(levels.astype(np.uint8)) == doubt


def test_line_names_the_first_films():
    assert doubt_line("val", [("a", "constant")], num_images=1000) == (
        "1 of 1,000 images of val/ show next to nothing, namely a (constant)"
    )
    line = doubt_line("val", [(name, "constant") for name in "abcdef"], num_images=9)
    assert "6 of 9" in line and "a (constant)" in line and "c (constant)" in line and "d (" not in line


@pytest.mark.parametrize("is_cached", [False, True])
def test_scan_warns_once_and_again_from_the_cache(tmp_path, caplog, is_cached):
    for i in range(6):
        Image.fromarray((RAMP * (4 if i < 2 else 0)).astype(np.uint8)).save(tmp_path / f"{i}.png")
    samples = [Sample(tmp_path / f"{i}.png", f"train/{i}.png", 0) for i in range(6)]
    split = Split(samples=samples, normal_class="n", classes=("n",))
    for _ in range(2):
        caplog.clear()
        scan(
            {"train": split},
            decoder=Decoder(isize=16, resize="squash"),
            num_threads=0,
            on_bad_image="error",
            cache=tmp_path / "cache" if is_cached else None,
            data_path=tmp_path,
        )
        warned = [one for one in caplog.records if one.levelno == logging.WARNING]
        shown, hidden = ([one for one in warned if hasattr(one, "only_in_file") == only] for only in (False, True))
        (line,) = [one.getMessage() for one in shown]
        assert "4 of 6 images of train/" in line and "train/2.png (nearly black)" in line and "log.txt" in line
        assert [one.getMessage() for one in hidden] == [f"train/{i}.png: nearly black" for i in range(2, 6)]


@pytest.mark.skipif("SALAD_DATA_DIR" not in os.environ, reason="needs real films")
def test_no_real_film_is_doubted():
    root = Path(os.environ["SALAD_DATA_DIR"])
    films = [*sorted(root.glob("kermany_dev/test/*/*"))[:40], *sorted(root.glob("nih1024/*.png"))[:5]]
    assert films
    assert [path.name for path in films if find_doubt(read_image(path, isize=64, resize="squash"))] == []
