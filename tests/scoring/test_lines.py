"""Outputs of predict: a new file replaces an old one at the end, or a file grows; nothing else is touched."""

import json
import os

import pytest

from salad.errors import InputError, StorageError
from salad.scoring import lines as module
from salad.scoring.lines import open_lines, whole_length
from salad.scoring.row import Form, Row

CSV, JSONL = Form("csv"), Form("jsonl")
HEADER = CSV.header
GOOD = Row(path="=a.png", score=0.5, percentile=1.0, abnormal=True, seconds=0.1, error=None, note=None)
BAD = Row(path="b.png", score=None, percentile=None, abnormal=None, seconds=0.1, error="no such file", note=None)
LINE = "'=a.png,0.5,1.0,1,0.1,,\n"


def write(out, *rows, **options):
    with open_lines(out, **{"form": CSV, **options}) as lines:
        for row in rows:
            lines.send(row)


def test_an_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old")
    out.chmod(0o640)
    (tmp_path / "out.csv.partial").write_text("of another run")
    with open_lines(out, form=CSV) as lines:
        lines.send(GOOD)
        assert out.read_text() == "old"
        assert (tmp_path / "out.csv.partial2").read_text() == HEADER + LINE
    assert out.read_text() == HEADER + LINE and out.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "out.csv.partial").read_text() == "of another run"
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, InputError, StorageError, ZeroDivisionError])
@pytest.mark.parametrize("is_old", [True, False])
def test_after_an_error_the_lines_so_far_are_named(tmp_path, capsys, error, is_old):
    out = tmp_path / "out.csv"
    if is_old:
        out.write_text("old")
    with pytest.raises(error), open_lines(out, form=CSV) as lines:
        lines.send(GOOD)
        raise error
    kept = "as it was" if is_old else "not written"
    assert capsys.readouterr().err == f"{out} is {kept}; the 1 lines so far are in {out}.partial\n"
    assert out.exists() == is_old and (tmp_path / "out.csv.partial").read_text() == HEADER + LINE

    with pytest.raises(error), open_lines(out, form=CSV):
        raise error
    assert len([*tmp_path.iterdir()]) == 1 + is_old  # an empty one does not stay


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "out.csv").symlink_to("real.csv")
    write(tmp_path / "out.csv", GOOD)
    assert (tmp_path / "out.csv").is_symlink() and (tmp_path / "real.csv").read_text() == HEADER + LINE


def test_a_long_name_has_room_for_a_partial_one(tmp_path):
    out = tmp_path / ("ä" * 125 + ".csv")
    write(out, GOOD)
    assert out.read_text() == HEADER + LINE


def test_a_pipe_gets_each_line_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open_lines(tmp_path / "pipe", form=JSONL) as lines:
        lines.send(GOOD)
        assert json.loads(os.read(reading, 1000))["path"] == "=a.png"  # JSON has the bare name
    os.close(reading)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("form", [CSV, JSONL])
@pytest.mark.parametrize("cut", [0, 1, 9])
def test_appending_goes_on_after_the_last_whole_line(tmp_path, caplog, form, cut):
    out = tmp_path / "out"
    write(out, GOOD, BAD, form=form, append=True)
    whole = out.read_text()
    out.write_text(whole[: len(whole) - cut])

    write(out, *([BAD] if cut else []), form=form, append=True)

    assert out.read_text() == whole
    assert ("its last line is not complete, and is cut off" in caplog.text) == (cut > 0)


@pytest.mark.parametrize("form", [CSV, JSONL])
@pytest.mark.parametrize("leaves", ["nothing", "an empty file", "a copy"])
def test_a_file_that_is_moved_while_it_grows_is_begun_anew(tmp_path, caplog, form, leaves):
    out, old = tmp_path / "out", tmp_path / "old"
    with open_lines(out, form=form, append=True) as lines:
        lines.send(GOOD)
        out.rename(old)
        if leaves != "nothing":
            out.write_bytes(old.read_bytes() if leaves == "a copy" else b"")
        lines.send(BAD)
        lines.send(BAD)
    write(tmp_path / "expected", *([GOOD] if leaves == "a copy" else []), BAD, BAD, form=form, append=True)
    assert out.read_text() == (tmp_path / "expected").read_text()
    assert caplog.text.count("out: has been moved or removed: further lines") == 1


def test_a_torn_header_is_written_anew(tmp_path):
    for text in ("", "pat", HEADER.strip()):
        (tmp_path / "out.csv").write_text(text)
        write(tmp_path / "out.csv", GOOD, append=True)
        assert (tmp_path / "out.csv").read_text() == HEADER + LINE


def test_zeros_of_a_power_cut_are_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    (tmp_path / "out.csv").write_bytes((HEADER + LINE).encode() + bytes(1000))
    write(tmp_path / "out.csv", GOOD, append=True)
    assert (tmp_path / "out.csv").read_text() == HEADER + LINE * 2


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (CSV, "path,score\na.png,1\n"),
        (CSV, '{"path": "a"}\n'),
        (CSV, "notes"),
        (CSV, "\n"),
        (JSONL, HEADER + LINE),
        (JSONL, '{"path": "a"}\n'),
        (JSONL, "[" * 10_000 + "\n"),
        (JSONL, "\0" * 100),
    ],
)
def test_a_file_of_another_form_is_not_appended_to(tmp_path, form, text):
    out = tmp_path / "out"
    out.write_text(text)
    with pytest.raises(InputError, match="cannot be appended to"):
        whole_length(out, form)
    with pytest.raises(InputError, match="cannot be appended to"):
        write(out, GOOD, form=form, append=True)
    assert out.read_text() == text


def test_two_processes_do_not_append_to_one_file(tmp_path):
    out = tmp_path / "out.csv"
    with open_lines(out, form=CSV, append=True) as lines:
        lines.send(GOOD)
        with pytest.raises(InputError, match="another process is appending to it"):
            write(out, GOOD, append=True)
    assert out.read_text() == HEADER + LINE
