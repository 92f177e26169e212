"""Outputs are checked before anything is done, and replace nothing before they are whole."""

import os
import stat

import pytest

from salad.errors import InputError, StorageError
from salad.runs.outputs import check_output, is_special, partial_file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "is a folder: give the name of a file"),
        (".", "is a folder"),
        ("absent/out.csv", "there is no folder .*absent: make it"),
        ("file/out.csv", "there is no folder .*file: make it"),
        ("n" * 300, "cannot be written"),
        ("a\0b", "cannot be written"),
        ("file", "is one of the inputs, which it would replace"),
        ("link", "is one of the inputs"),
        ("twin", "is one of the inputs"),
    ],
)
def test_what_cannot_be_an_output_is_refused(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("film")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "twin").hardlink_to(tmp_path / "file")
    with pytest.raises(InputError, match=f"--out .*{message}"):
        check_output(tmp_path / name, inputs=[tmp_path / "absent", tmp_path / "file"])
    assert (tmp_path / "file").read_text() == "film"


def test_pipes_and_devices_are_special(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert is_special(tmp_path / "pipe")
    assert not is_special(tmp_path / "file") and not is_special(tmp_path / "absent")
    check_output(tmp_path / "pipe")
    check_output(tmp_path / "new", inputs=[tmp_path / "file"])


def test_a_file_is_replaced_once_the_new_one_is_whole(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(0o604)
    with partial_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o604
    with pytest.raises(ZeroDivisionError), partial_file(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "new" and partial.read_text() == "half"
    with pytest.raises(ZeroDivisionError), partial_file(path):
        raise ZeroDivisionError
    assert {file.name for file in tmp_path.iterdir()} == {"out", "out.partial"}


def test_a_full_disk_leaves_the_old_file(small_disk, fill):
    path = small_disk / "out"
    path.write_text("old")
    fill()
    with pytest.raises((StorageError, OSError)), partial_file(path) as partial, partial.open("wb", 0) as file:
        file.write(bytes(2**16))
        file.write(bytes(2**16))
    assert path.read_text() == "old"
