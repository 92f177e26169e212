"""Which file a name means that another system has written."""

import os
from pathlib import Path

import pytest

from salad.images.names import find_file, hint, last_part, shortened, stem_of, suffix_of

NAME = "films/R\u00fccken \u00e9.png"


@pytest.mark.parametrize(
    "name",
    [NAME, "films\\R\u00fccken \u00e9.png", ".\\films\\R\u00fccken \u00e9.png", f" {NAME} ", f'"{NAME}"',
     "films/Ru\u0308cken e\u0301.png", os.fsdecode(NAME.encode("cp1252")), "films/R\u00fccken\u00a0\u00e9.png",
     "films/../films/R\u00fccken \u00e9.png"],
)  # fmt: skip
def test_names_of_other_systems(tmp_path, write_image, name):
    path = write_image(tmp_path / NAME)
    assert find_file(name, tmp_path).resolve() == path


def test_names_on_disk_of_other_systems(tmp_path, write_image):
    path = write_image(tmp_path / "Ru\u0308cken.png")  # as a Mac writes it
    assert find_file("R\u00fccken.png", tmp_path) == path
    other = tmp_path / os.fsdecode(b"r\xf6ntgen.png")
    other.touch()
    assert find_file("r\u00f6ntgen.png", tmp_path) == other
    assert find_file(path.as_uri(), Path("/")) == path
    assert find_file(f"file://localhost{path}", tmp_path) == path


def test_the_exact_name_comes_first(tmp_path, write_image):
    for name in ("a\\b.png", "a/b.png", " c.png", "c.png", "u\u0308.png", "\u00fc.png"):
        write_image(tmp_path / name)
    for name in ("a\\b.png", "a/b.png", " c.png", "c.png", "u\u0308.png", "\u00fc.png"):
        assert find_file(name, tmp_path) == tmp_path / name


def test_a_file_that_comes_later_is_found(tmp_path, write_image):
    assert find_file("films\\a.png", tmp_path) == tmp_path / "films\\a.png"
    path = write_image(tmp_path / "films/a.png")
    assert find_file("films\\a.png", tmp_path) == path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("films/A.PNG", "; there is a.png, which differs in capitals"),
        ("FILMS/a.png", "; there is films, which differs in capitals"),
        ("films/a.jpg", "; there is a.png"),
        ("C:\\data\\films\\a.png", "; it is a path of Windows: write paths from the folder of the table or list"),
        ("C:/data/films/a.png", "; it is a path of Windows: write paths from the folder of the table or list"),
        ("films/b.png", ""),
        ("nowhere/b.png", ""),
    ],
)
def test_the_reason_why_a_file_is_not_there(tmp_path, write_image, name, said):
    write_image(tmp_path / "films/a.png")
    assert find_file(name, tmp_path) == tmp_path / name
    assert hint(tmp_path / name) == said


def test_a_name_with_blanks_does_not_differ_in_capitals(tmp_path, write_image):
    write_image(tmp_path / "films/a.png")
    assert hint(tmp_path / "films/a.png\n") == "; there is a.png"


def test_stems_of_uids_are_whole():
    assert (stem_of("1.2.276.0.15"), suffix_of("1.2.276.0.15")) == ("1.2.276.0.15", "")
    assert (stem_of("1.2.276.0.15.dcm"), suffix_of("a.PNG"), stem_of("a.b.IMA")) == ("1.2.276.0.15", ".png", "a.b")


def test_the_last_part_of_a_path():
    assert last_part("images\\e\u0301.png") == last_part('"images/\u00e9.png"') == "\u00e9.png"


def test_a_long_name_keeps_its_end():
    text = shortened("CheXpert-v1.0/train/" + "x" * 90 + "/study1/view1_frontal.jpg")
    assert len(text) == 80 and text.startswith("CheXpert-v1.0/train/xx") and text.endswith("view1_frontal.jpg")
    assert shortened("a.png") == "a.png"
