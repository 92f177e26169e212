"""A JPEG that lost a piece is refused; one with flat areas is not."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salad.errors import InputError
from salad.images.jpeg import check_jpeg
from salad.images.read import read_whole

Y, X = np.mgrid[:200, :160]
NOISE = np.random.default_rng(0).normal(0, 6, X.shape)
FILM = np.clip(60 + 80 * X / 160 + 50 * np.sin(Y / 9) * np.sin(X / 13) + NOISE, 0, 255).astype(np.uint8)
KINDS = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 20},
    "restarts by row": {"restart_marker_rows": 1, "optimize": True},
}


def jpeg(pixels, mode="L", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def with_hole(content, first, last, fill=b"\0"):
    start, end = int(len(content) * first), int(len(content) * last)
    return content[:start] + fill * (end - start) + content[end:]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "last"), [(1 / 3, 2 / 3), (0.3, 0.36), (0.5, 0.9)])
@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_holes(mode, kind, first, last, fill):
    content = jpeg(FILM, mode, **KINDS[kind])
    check_jpeg(content)
    with pytest.raises(InputError, match="hole|cut off"):
        check_jpeg(with_hole(content, first, last, fill))


def test_a_file_with_a_hole_is_refused_by_name(tmp_path):
    (tmp_path / "film.jpg").write_bytes(with_hole(jpeg(FILM), 1 / 3, 2 / 3))
    with pytest.raises(InputError, match=r"film\.jpg: a JPEG with a hole: a piece of the file was lost"):
        read_whole(tmp_path / "film.jpg")


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("border", [0, 255])
def test_flat_areas_are_no_holes(mode, kind, border):
    for widths in (400, ((0, 900), (0, 0)), ((900, 0), (0, 0))):
        check_jpeg(jpeg(np.pad(FILM, widths, constant_values=border), mode, **KINDS[kind]))
    check_jpeg(jpeg(np.full((1000, 1000), border, np.uint8), mode, **KINDS[kind]))


def test_an_area_of_zeros_with_a_hole_elsewhere():
    content = jpeg(np.pad(FILM, ((2000, 0), (0, 400))), optimize=True)
    assert b"\0" * 64 in content
    check_jpeg(content)
    with pytest.raises(InputError, match="hole"):
        check_jpeg(content[:-4000] + bytes(1500) + content[-2500:])


def test_bytes_behind_the_last_code_do_no_harm():
    content = jpeg(FILM)
    check_jpeg(content[:-2] + bytes(500) + content[-2:])
    check_jpeg(content + bytes(500))


def test_end_of_a_thumbnail_is_not_the_end():
    thumbnail = jpeg(FILM[::4, ::4])
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    content = jpeg(FILM)
    whole = content[:2] + segment + content[2:]
    check_jpeg(whole)
    with pytest.raises(InputError, match="without its end: cut off"):
        check_jpeg(whole[: len(whole) * 3 // 4] + bytes(4000))


@pytest.mark.parametrize("scan", [b"", b"\xff\xda", b"\xff\xda\0\2"])
def test_damaged_headers_are_refused(tmp_path, scan):
    content = jpeg(FILM)
    (tmp_path / "film.jpg").write_bytes(content[: content.index(b"\xff\xc4")] + scan)
    with pytest.raises(InputError):
        read_whole(tmp_path / "film.jpg")


@pytest.mark.skipif("SALAD_DATA_DIR" not in os.environ, reason="needs real films")
def test_real_films_are_whole():
    films = [*sorted(Path(os.environ["SALAD_DATA_DIR"]).glob("kermany_*/*/**/*.jp*g"))[::25]]
    assert films
    for film in films:
        check_jpeg(film.read_bytes())
