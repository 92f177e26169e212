"""Text files and CSV tables that others wrote."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from salad.errors import InputError, printable
from salad.samples import Box

MAX_TABLE_BYTES = 256 * 2**20
MAX_SHOWN = 12  # names in a message
DELIMITERS = ",;\t|"

Row = dict[str, str]


def shown(names: Iterable[object]) -> str:
    """Some names that stand in a file, for a message of one line."""
    texts = [printable(name)[:40] for name in names]
    return ", ".join(texts[:MAX_SHOWN]) + (f" and {len(texts) - MAX_SHOWN} more" if len(texts) > MAX_SHOWN else "")


def read_text(path: Path) -> str:
    """A text file that anybody may have written, in UTF-8, or in UTF-16 with its mark.

    Bytes that are no UTF-8 stand as in file names, so that a table can name any file.

    Raises:
        InputError: it is no file, too large, or binary.
    """
    where = printable(path)
    try:
        if not path.is_file():
            raise InputError(f"{where}: no such file")
        with path.open("rb") as file:
            content = file.read(MAX_TABLE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_TABLE_BYTES:
        raise InputError(f"{where}: larger than {MAX_TABLE_BYTES:,} bytes, no table")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise InputError(f"{where}: holds NUL characters, so it is no table; save it as UTF-8")
    return text


def read_rows(path: Path, *, needed: tuple[str, ...] = ()) -> Iterator[tuple[int, Row]]:
    """Read the rows of a CSV file one by one, each with the number of its line.

    Commas, semicolons, tabs or bars part the columns, whichever the first line has most of. Fields that are
    missing at the end of a row are empty.

    Args:
        path: the file; its first line names the columns.
        needed: columns that must be there.

    Raises:
        InputError: it cannot be read, a column is missing or there twice, or a row has too many fields.
    """
    text, where = read_text(path), printable(path)
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=first.count), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in needed:
            if header.count(name) != 1:
                what = "no column" if name not in header else "more than one column"
                raise InputError(f"{where}: has {what} '{name}'; its columns are {shown(header) or 'none'}")
        for fields in reader:
            if any(fields[len(header) :]):
                raise InputError(
                    f"{where}: line {reader.line_num} has {len(fields)} fields, but there are {len(header)} columns: "
                    "put quotes around a field that holds the separator"
                )
            if any(fields):
                padded = [field.strip() for field in fields] + [""] * (len(header) - len(fields))
                yield reader.line_num, dict(zip(header, padded, strict=False))
    except csv.Error as error:
        raise InputError(f"{where}: line {reader.line_num} is no row of a CSV file ({printable(error)})") from None


def parse_box(*fields: str, are_sizes: bool = False) -> Box | None:
    """A box as a table writes it; None where there is none, as in the rows of normal images.

    Args:
        fields: left, top, and right and bottom or width and height; four of them.
        are_sizes: whether it is width and height.
    """
    try:
        left, top, right, bottom = map(float, fields)
    except ValueError:
        return None
    box = (left, top, left + right, top + bottom) if are_sizes else (left, top, right, bottom)
    return box if all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3] else None


def age_in_years(text: str) -> float | None:
    """An age as data sets write it: ``58``, ``058Y``, ``011M``, ``006D``; None for anything else."""
    found = re.fullmatch(r"(\d{1,4})(?:\.0)?([YMD]?)", text)
    return None if found is None else int(found[1]) / {"": 1, "Y": 1, "M": 12, "D": 365}[found[2]]
