"""Write and read the CSV files of the program, whose cells no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

from salad.input_files import read_input

FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")  # a spreadsheet takes such a text for a formula, but not after a '
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Format rows as lines of CSV.

    A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return, numbers aside, gets an apostrophe
    in front, and so does one that already has apostrophes there: `read_csv` takes off exactly one.
    """
    return "".join(map(_line, rows))


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows, the header first, to a new file of UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as file:
        for row in rows:
            file.write(csv_lines([row]))


def read_csv(path: Path, *, most: int | None = None) -> list[dict[str, str]]:
    """Read the rows of a file of `write_csv` by the names of its header.

    Args:
        path: the file.
        most: largest size, in bytes; None for any.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger.
        ValueError: the file is not a table: it is not UTF-8, or a row has more or fewer cells than the header.
    """
    text = read_input(path, most=most).decode("utf-8-sig")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header, rows = next(reader), [*reader]
    except StopIteration:
        raise ValueError("it is empty") from None
    except csv.Error as error:
        raise ValueError(str(error)) from None
    named = []
    for number, row in enumerate(rows, start=2):
        if row and len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells instead of {len(header)}")
        named += [dict(zip(header, map(unguarded, row), strict=True))] if row else []
    return named


def unguarded(text: str) -> str:
    """Take off the apostrophe that `csv_lines` has put in front of a text."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def _line(row: Iterable[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(map(_guarded, row))  # quotes texts that hold one of the two
    return line.getvalue().removesuffix("\r\n") + "\n"


def _guarded(value: object) -> object:
    """Put an apostrophe in front of a text that a spreadsheet would take for a formula."""
    is_formula = isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value
