"""Which files a list of words, standard input and a folder that fills stand for."""

import os
import threading
from pathlib import Path

import pytest

from salad.errors import InputError
from salad.images.find import images_below, list_images


@pytest.fixture
def folder(tmp_path, write_image) -> Path:
    for name in ("b/2.png", "b/1.JPG", "a.png", ".hidden.png", ".cache/x.png", "b/deep/3.tiff"):
        write_image(tmp_path / "films" / name)
    (tmp_path / "films" / "notes.txt").write_text("no image")
    (tmp_path / "films" / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "films" / "LICENSE").write_bytes(b"text")
    return tmp_path / "films"


def names(paths, folder):
    return [None if path is None else path.relative_to(folder).as_posix() for path in paths]


def test_images_of_a_folder_are_those_with_a_suffix_and_dicom_without_one(folder):
    assert names(images_below(folder), folder) == ["IM0001", "a.png", "b/1.JPG", "b/2.png", "b/deep/3.tiff"]


def test_words_are_files_folders_and_patterns_in_their_order(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "odd[1].png").touch()

    found = list_images(["films/b", "films/*.png", "absent.png", "no*match", "films/odd[1].png", "films/notes.txt"])

    assert list(map(str, found)) == [
        "films/b/1.JPG", "films/b/2.png", "films/b/deep/3.tiff", "films/a.png", "films/odd[1].png", "absent.png",
        "no*match", "films/odd[1].png", "films/notes.txt",
    ]  # fmt: skip


def test_two_stars_reach_into_folders(folder):
    assert len(list(list_images([f"{folder}/**/*.tiff"]))) == 1


def test_an_empty_folder_is_said(tmp_path, caplog):
    assert list(list_images([str(tmp_path)])) == []
    assert "holds no image" in caplog.text


def test_a_folder_that_cannot_be_listed_is_said_and_the_others_go_on(folder, caplog, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    assert names(images_below(folder), folder) == ["IM0001", "a.png"]
    assert "b: cannot be listed (Permission denied)" in caplog.text


def test_a_circle_of_links_ends(folder):
    (folder / "b" / "up").symlink_to(folder)

    assert len(list(images_below(folder))) == 5


def typed(content: bytes, **options) -> list[Path | None]:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    try:
        return list(list_images(["first.png", "-", "last.png"], stdin=reading, **options))
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (b"a.png\n\nb c.png\nd.png", {}, ["a.png", "b c.png", "d.png"]),
        (b"a\nb.png\0c.png\0", {"separator": b"\0"}, ["a\nb.png", "c.png"]),
        (b"\xff.png\n*.png\n", {}, ["\udcff.png", "*.png"]),
        (b"", {}, []),
    ],
)
def test_paths_are_read_from_standard_input(content, options, expected):
    assert list(map(str, typed(content, **options))) == ["first.png", *expected, "last.png"]


def test_folders_on_standard_input_are_looked_into(folder):
    assert len(typed(os.fsencode(folder) + b"\n")) == 7


def test_what_is_no_list_of_paths_is_refused():
    reading, writing = os.pipe()
    thread = threading.Thread(target=lambda: (os.write(writing, bytes(200_000)), os.close(writing)))
    thread.start()
    with pytest.raises(InputError, match="holds no paths"):
        list(list_images(["-"], stdin=reading))
    while os.read(reading, 2**16):
        pass
    thread.join()
    os.close(reading)


def test_before_it_waits_for_more_it_says_so():
    reading, writing = os.pipe()
    found = list_images(["-"], stdin=reading)
    os.write(writing, b"a.png\nb.p")

    assert [next(found), next(found)] == [Path("a.png"), None]
    os.write(writing, b"ng\n")
    os.close(writing)
    assert list(found) == [Path("b.png")]
    os.close(reading)


def test_two_stars_take_nothing_twice_and_nothing_from_folders_that_are_left_out(folder, write_image, caplog):
    write_image(folder / "@eaDir/a.png/thumb.jpg")
    write_image(folder / "b/masks/2.png")
    (folder / "b/up").symlink_to(folder)
    expected = ["IM0001", "a.png", "b/1.JPG", "b/2.png", "b/deep/3.tiff"]
    assert sorted(names(list_images([f"{folder}/**"]), folder)) == expected
    assert sorted(names(list_images([f"{folder}/**/*.png"]), folder)) == ["a.png", "b/2.png"]
    assert "1 file in system folders (@eaDir/)" in caplog.text
    assert names(list_images([f"{folder}/*/masks/*"]), folder) == ["b/masks/2.png"]  # named


@pytest.mark.parametrize("words", [[""], [" "], ["a.png", ""]])
def test_an_empty_path_is_refused_before_anything_is_listed(words):
    with pytest.raises(InputError, match="an empty path is given"):
        list_images(words)


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace("\n", "\n  \n\t\r\n").encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: text.encode("cp1252"),
        lambda text: text.replace("/", "\\").encode(),
        lambda text: text.replace("\u00fc", "u\u0308").encode(),
        lambda text: "".join(f'"{line}" \n' for line in text.splitlines()).encode(),
    ],
)
def test_lists_as_programs_save_them(tmp_path, monkeypatch, write_image, encode):
    monkeypatch.chdir(tmp_path)
    listed = [str(write_image(Path(name))) for name in ("films/r\u00fcckw\u00e4rts.png", "films/b c.png")]
    assert list(map(str, typed(encode("".join(f"{name}\n" for name in listed)))))[1:-1] == listed


@pytest.mark.parametrize("content", [b"a.png\n" + b"b\0.png\n", "a.png\n".encode("utf-32")])
def test_what_is_no_text_is_refused_with_the_way_out(content):
    with pytest.raises(InputError, match="NUL characters"):
        typed(content)


def test_a_name_that_holds_what_ends_lines_elsewhere_is_read_as_it_is(tmp_path, monkeypatch, write_image):
    monkeypatch.chdir(tmp_path)
    write_image(Path("a\rb.png"))
    assert list(map(str, typed(b"a\rb.png\n")))[1:-1] == ["a\rb.png"]


def test_a_byte_order_mark_that_comes_in_two_parts():
    reading, writing = os.pipe()
    found = list_images(["-"], stdin=reading)
    os.write(writing, b"\xff")
    assert next(found) is None
    os.write(writing, "\ufeffa.png\nb".encode("utf-16-le")[1:])
    os.close(writing)
    assert [path for path in found if path] == [Path("a.png"), Path("b")]
    os.close(reading)
