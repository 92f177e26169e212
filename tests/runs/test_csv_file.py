"""CSV files: a spreadsheet runs nothing in them, and every text is read back as it was."""

import csv
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad.runs.csv_file import FORMULA, csv_lines, read_csv, unguarded, write_csv


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=cmd|' /C calc'!A0.png", "'=cmd|' /C calc'!A0.png"),
        ("+1+1", "'+1+1"),
        ("-2+3.png", "'-2+3.png"),
        ("@SUM(A1).dcm", "'@SUM(A1).dcm"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("＝1", "'＝1"),
        ("'=x", "''=x"),
        ("'plain", "'plain"),
        ("a=b", "a=b"),
        ("-0.5", "-0.5"),
        ("+0.0123", "+0.0123"),
        ("-1.2e-05", "-1.2e-05"),
        (-0.5, "-0.5"),
        (-3, "-3"),
        ("-inf", "'-inf"),
        ("-", "'-"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_cell_that_looks_like_a_formula_gets_an_apostrophe(value, cell):
    assert [*csv.reader(io.StringIO(csv_lines([[value, "x"]]), newline=""), strict=True)] == [[cell, "x"]]


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=5))
def test_every_text_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    write_csv(path, [["a", "b"], *rows])
    assert [[row["a"], row["b"]] for row in read_csv(path)] == rows
    for row in csv.reader(path.open(newline="", encoding="utf-8")):
        assert not any(cell.startswith(tuple("=@\t\r")) for cell in row)


def test_a_cell_that_no_guard_was_needed_for_stays():
    assert [unguarded(text) for text in ("'tis", "'", "''=", "'-1", "-1")] == ["'tis", "'", "'=", "-1", "-1"]
    assert FORMULA.match("''=") and not FORMULA.match("''")


@pytest.mark.parametrize("content", [b"a,b\n1\n", b"a,b\n1,2,3\n", b"\xff", b'a,b\n"x\n', b""])
def test_what_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011  # of several kinds
        read_csv(tmp_path / "a.csv")


def test_only_regular_files_of_a_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "absent"):
        with pytest.raises(OSError):  # noqa: PT011  # of several kinds
            read_csv(path)
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_csv(tmp_path / "a.csv", most=3)
