"""Read text files and CSV tables from other programs."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from salad.errors import InputError, printable
from salad.samples import Box

MAX_TABLE_BYTES = 256 * 2**20
MAX_SHOWN = 12  # number of names in a message
DELIMITERS = ",;\t|"

Row = dict[str, str]


def shown(names: Iterable[object]) -> str:
    """Join names from a file for a one-line message; shorten long names and long lists."""
    texts = [printable(name)[:40] for name in names]
    return ", ".join(texts[:MAX_SHOWN]) + (f" and {len(texts) - MAX_SHOWN} more" if len(texts) > MAX_SHOWN else "")


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark.

    Bytes that are not valid UTF-8 are decoded as in file names, so that a table can name any file.

    Args:
        path: the file.

    Returns:
        Its text.

    Raises:
        InputError: the file is missing, too large or binary.
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
        raise InputError(f"{where}: larger than {MAX_TABLE_BYTES:,} bytes, too large for a table")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise InputError(f"{where}: holds NUL characters, so it is no table; save it as UTF-8")
    return text


def read_rows(path: Path, *, needed: tuple[str, ...] = ()) -> Iterator[tuple[int, Row]]:
    """Read the rows of a CSV file one by one.

    The separator is the most frequent of comma, semicolon, tab and bar in the first line. Fields that are missing at
    the end of a row are empty.

    Args:
        path: the file; its first line names the columns.
        needed: columns that must occur exactly once.

    Yields:
        Line number and row.

    Raises:
        InputError: the file cannot be read, a needed column is missing or occurs twice, or a row has too many fields.
    """
    text, where = read_text(path), printable(path)
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=first.count), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in needed:
            if header.count(name) != 1:
                fault = "no column" if name not in header else "more than one column"
                raise InputError(f"{where}: has {fault} '{name}'; its columns are {shown(header) or 'none'}")
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
    """Parse a box of a table.

    Args:
        fields: left and top, then right and bottom or width and height; four fields.
        are_sizes: True if the last two fields are width and height.

    Returns:
        The box; None if the fields hold none, as in rows of normal images.
    """
    try:
        left, top, right, bottom = map(float, fields)
    except ValueError:
        return None
    box = (left, top, left + right, top + bottom) if are_sizes else (left, top, right, bottom)
    return box if all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3] else None


def age_in_years(text: str) -> float | None:
    """Parse an age such as ``58``, ``058Y``, ``011M`` or ``006D``, in years; return None for other text."""
    match = re.fullmatch(r"(\d{1,4})(?:\.0)?([YMD]?)", text)
    return None if match is None else int(match[1]) / {"": 1, "Y": 1, "M": 12, "D": 365}[match[2]]
