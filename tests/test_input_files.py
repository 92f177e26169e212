"""Files and JSON text of an unknown source: what is refused, in one short line, and never waited for."""

import math
import os
import socket
from pathlib import Path

import pytest
from running import invoke, stopped

from salad import cli
from salad.images.cache_file import load_cache
from salad.input_files import open_input, parse_json, read_input
from salad.report.history import read_history
from salad.runs.folder import read_metrics

REFUSED = {
    "NaN": "NaN is not a number of JSON",
    "-Infinity": "-Infinity is not a number of JSON",
    "1e999": "1e999 is not a number of JSON",
    "1" * 5000: "a number of 5,000 digits",
    "1" * 301: "a number of 301 digits",
    '{"a": 1, "b": {"c": 1, "c": 2}}': "the key 'c' is there twice",
    "[" * 100_000: "brackets are nested too deeply",
    '{"a":' * 100_000: "brackets are nested too deeply",
    b'"\xff"': "byte 2 is not UTF-8",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=range(len(REFUSED)))
def test_text_that_is_no_json(text, reason):
    with pytest.raises(ValueError) as caught:
        parse_json(text)
    assert str(caught.value) == reason


def test_text_that_is_json():
    assert parse_json(b'\xef\xbb\xbf{"a": [1, -2.5e3, null, true, "\\u20ac"]}') == {"a": [1, -2500.0, None, True, "€"]}
    assert parse_json("[NaN, 1e999, -Infinity]", allow_nan=True)[1:] == [math.inf, -math.inf]
    assert parse_json("1" * 300) == int("1" * 300)


def odd(kind: str, path: Path) -> Path:
    """Make something that is not a regular file under this name."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(path.parent)  # the name of a socket may take 107 bytes
            server.bind(path.name)
    return path


ODD = {
    "pipe": "a named pipe, not a file",
    "folder": "a folder, not a file",
    "loop": "Too many levels of symbolic links",
    "device": "a device, not a file",
    "socket": "No such device or address",
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError) as caught:
        open_input(odd(kind, tmp_path / "x"))
    assert caught.value.strerror == ODD[kind]


def test_a_name_with_nul_is_no_file():
    with pytest.raises(OSError, match="NUL"):
        open_input(Path("a\0b"))


def test_a_pipe_of_the_shell_is_read():
    reader, writer = os.pipe()
    os.write(writer, b"{}")
    os.close(writer)
    assert read_input(Path(f"/dev/fd/{reader}")) == b"{}"
    os.close(reader)


def test_a_file_above_the_limit_is_not_read_whole(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_input(tmp_path / "x", most=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_input(tmp_path / "x", most=4)


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device"])
def test_the_readers_of_json_files_never_wait(tmp_path, kind):
    path = odd(kind, tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=f"metrics.jsonl: cannot be read .{ODD[kind]}"):
        read_metrics(path)
    assert read_history([tmp_path]) is None
    assert load_cache(path, 8) is None
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", tmp_path, "--load_config", path))
    assert f"cannot be read ({ODD[kind]})" in line


@pytest.mark.parametrize("row", ['"0"', "-1", "1", "1e3", "99999999999999999999", "null"])
def test_an_index_of_a_cache_that_names_no_row_is_no_cache(tmp_path, row):
    from salad.images.cache_file import pixel_path

    text = '{"version": 2, "images": [["a", 1, 1, 0, %s, 5]], "bad": []}'
    for number, expected in (("0", True), (row, False)):
        index = tmp_path / "train-x.json"
        index.write_text(text % number)
        pixel_path(index, text % number).write_bytes(bytes(64))
        assert (load_cache(index, 8) is not None) == expected
