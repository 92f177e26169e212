"""Which files below a folder count as images, and what is said of the others."""

import logging
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dataset, written
from PIL import Image

from salad.images.listing import LeftOut, list_files, reason_to_leave_out

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


def listed(folder: Path) -> tuple[list[str], str]:
    left_out = LeftOut()
    return [os.path.relpath(path, folder) for path in list_files(folder, left_out=left_out)], str(left_out)


def test_a_file_is_told_by_its_suffix_else_by_its_first_bytes(tmp_path):
    dicom = written(dataset(PIXELS))
    for name in ("IM000001", "1.2.276.0.7230010.3.1.4.8.15178752", "A.IMA", "B.img", "x.dcm", "0001", "c.001"):
        (tmp_path / name).write_bytes(dicom)
    (tmp_path / "bare").write_bytes(dicom[132:])  # without a preamble
    for number, kind in enumerate(["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"]):
        Image.fromarray(PIXELS).save(tmp_path / f"{kind}{('.jfif', '.jpe', '', '.dat')[number % 4]}", format=kind)
    (tmp_path / "text.png").write_text("not looked into")
    images = sorted(path.name for path in tmp_path.iterdir())
    for name in ("notes.txt", "BMW.txt", "P5 is a letter", "t.csv", "empty"):
        (tmp_path / name).write_text("" if name == "empty" else name)
    (tmp_path / "DICOMDIR").write_bytes(dicom)
    (tmp_path / "index").write_bytes(dicom[:140] + b"\2\0\2\0UI\x14\x001.2.840.10008.1.3.10\2\0\3\0")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    found, said = listed(tmp_path)
    assert found == images
    assert "7 files of no image format (.txt, DICOMDIR, P5 is a letter, ...)" in said
    assert "2 files that cannot be opened (broken, pipe)" in said


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "~snapshot", "$RECYCLE.BIN", "RECYCLER",
     "System Volume Information", "lost+found", "__MACOSX", "__pycache__", ".thumbnails", ".Trash-1000", "FOUND.000",
     "masks", "Lung_Masks", "ManualMask", "leftMask", "segmentations", "labels", "GT", "ground_truth", "heat maps",
     "grad-cam", "thumbs", "previews"],
)  # fmt: skip
def test_folders_that_hold_no_films(tmp_path, write_image, name):
    write_image(tmp_path / "patient1/a.png")
    write_image(tmp_path / name / "deep/b.png")
    found, said = listed(tmp_path)
    assert found == ["patient1/a.png"]
    assert "1 file" in said and f"({name}/)" in said
    assert listed(tmp_path / name)[0] == ["deep/b.png"]  # the folder that is named is read


@pytest.mark.parametrize(
    "name",
    ["images", "without_masks", "images_and_masks", "#1", "$12", "unmasked", "labeled", "Seguin", "2", "Camille"],
)
def test_folders_that_may_hold_films(name):
    assert reason_to_leave_out(name) is None


def test_files_that_are_no_films(tmp_path, write_image):
    for name in ("a.png", "a_mask.png", "a_lung_mask.png", "b_mask.png", "._a.png", ".a.png.x2"):
        write_image(tmp_path / name.replace(".x2", ".png"))
    for name in ("a.png~", "a.png.bak", "c.png.part", "d.tmp"):
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "Thumbs.db").touch()
    found, said = listed(tmp_path)
    assert found == ["a.png", "b_mask.png"]  # there is no b.png, so it may be a film of that name
    assert said == (
        "4 files half written or kept as backups (a.png.bak, a.png~, c.png.part, ...), "
        "2 files of masks or the like (a_lung_mask.png, a_mask.png), 2 files under hidden names (._a.png, .a.png.png)"
    )


def test_links_are_followed_and_each_folder_is_read_once(tmp_path, write_image):
    write_image(tmp_path / "elsewhere/b.png")
    write_image(tmp_path / "films/a.png")
    (tmp_path / "films/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "films/link2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "films/up").symlink_to(tmp_path / "films")
    (tmp_path / "films/c.png").symlink_to(tmp_path / "elsewhere/b.png")
    found, said = listed(tmp_path / "films")
    assert found == ["a.png", "c.png", "link/b.png"]
    assert said == "2 folders reached twice through links (link2, up)"


def test_folders_nested_more_deeply_than_pythons_stack(tmp_path, write_image):
    current = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=current)
        inner = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(os.open("a.png", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)
    assert len(listed(tmp_path)[0]) == 1
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # which pytest, being recursive, cannot


def test_an_image_suffix_is_believed_without_opening_the_file(tmp_path, write_image, monkeypatch):
    write_image(tmp_path / "a.png")
    monkeypatch.setattr(os, "open", None)
    assert listed(tmp_path)[0] == ["a.png"]


def test_what_is_left_out_is_said_once(tmp_path, write_image, caplog):
    write_image(tmp_path / "@eaDir/a.png")
    for _ in range(2):
        left_out = LeftOut()
        list(list_files(tmp_path, left_out=left_out))
        left_out.say(tmp_path, logger=logging.getLogger("salad"))
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}: left out: 1 file in system folders (@eaDir/)"
    ]
