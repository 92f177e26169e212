"""Read text files and CSV tables from other programs."""

import csv
import difflib
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from salad.errors import InputError, printable
from salad.images.names import hint, shortened
from salad.samples import Box

MAX_TABLE_BYTES = 256 * 2**20
MAX_SHOWN = 12  # number of names in a message
MAX_NAME = 60  # characters of each
SIMILAR = {
    **dict.fromkeys(("image", "file", "filename", "filepath", "imagepath", "imageindex", "img", "imageid"), "path"),
    **dict.fromkeys(("class", "target", "diagnosis", "classname", "y"), "label"),
    **dict.fromkeys(("subject", "subjectid", "patient", "mrn", "pid", "patientname"), "patient_id"),
    **dict.fromkeys(("study", "exam", "examid", "accession", "accessionnumber", "studyinstanceuid"), "study_id"),
    **dict.fromkeys(("set", "subset", "partition", "fold"), "split"),
    **dict.fromkeys(("viewposition", "projection", "position"), "view"),
    **dict.fromkeys(("gender", "patientsex", "patientgender"), "sex"),
    **dict.fromkeys(("patientage", "years", "ageyears"), "age"),
}
DELIMITERS = ",;\t|"
PREAMBLE = re.compile(r"(?:[ \r]*\n)*(?:\"?sep=([,;\t|])\"?\r?\n)?", re.IGNORECASE)  # blank lines, Excel's separator

Row = dict[str, str]


def shown(names: Iterable[object]) -> str:
    """Join names from a file for a one-line message; shorten long names and long lists."""
    texts = [shortened(name, MAX_NAME) for name in names]
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
            raise InputError(f"{where}: no such file{hint(path) or _held(path.parent)}")
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


def _held(folder: Path) -> str:
    """Word what a folder holds, for the end of a message about a file that it should hold."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.name[0] != ".") if folder.is_dir() else []
    return f"; its folder holds {shown(names)}" if names else ""


def matched_names(header: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Match the columns of a table to known names, whose capitals, blanks and hyphens may differ.

    Args:
        header: names of the columns.
        known: names to find.

    Returns:
        Known name by column, for the columns that have no known name themselves, as far as it is clear.
    """
    header, known = list(header), list(known)
    by_key = {_squeezed(name): name for name in known}
    found = {name: by_key[_squeezed(name)] for name in header if name not in known and _squeezed(name) in by_key}
    return {name: meant for name, meant in found.items() if meant not in header}


def similar_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known column name that another name is close to; None if there is none."""
    by_key = {_squeezed(other): other for other in known}
    close = [SIMILAR.get(_squeezed(name), "")] + difflib.get_close_matches(_squeezed(name), by_key, n=1, cutoff=0.75)
    return next((by_key.get(other, other) for other in close if other in by_key or other in by_key.values()), None)


def _squeezed(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def read_rows(path: Path, *, needed: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> Iterator[tuple[int, Row]]:
    """Read the rows of a CSV file one by one.

    Blank lines and a line such as `sep=;` may come first. Else the separator is the most frequent of comma, semicolon,
    tab and bar in the first line. Fields that are missing at
    the end of a row are empty.

    Args:
        path: the file; its first line names the columns.
        needed: columns that must occur exactly once.
        optional: other columns to find where their capitals or blanks differ.

    Yields:
        Line number and row.

    Raises:
        InputError: the file cannot be read, a needed column is missing or occurs twice, or a row has too many fields.
    """
    text, where = read_text(path), printable(path)
    start = PREAMBLE.match(text)
    assert start is not None, "it matches the empty text"
    num_before, text = start[0].count("\n"), text[start.end() :]
    first = text.partition("\n")[0]
    delimiter = start[1] or max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        meant = matched_names(header, (*needed, *optional))
        header = [meant.get(name, name) for name in header]
        for name in needed:
            if header.count(name) != 1:
                fault = "no column" if name not in header else "more than one column"
                close = next((f"; is it '{other[:40]}'?" for other in header if similar_name(other, [name])), "")
                close = close if name not in header else ""
                raise InputError(f"{where}: has {fault} '{name}'; its columns are {shown(header) or 'none'}{close}")
        for fields in reader:
            line = num_before + reader.line_num
            if any(fields[len(header) :]):
                raise InputError(
                    f"{where}: line {line} has {len(fields)} fields, but there are {len(header)} columns: "
                    "put quotes around a field that holds the separator"
                )
            if any(fields):
                padded = [field.strip() for field in fields] + [""] * (len(header) - len(fields))
                yield line, dict(zip(header, padded, strict=False))
    except csv.Error as error:
        raise InputError(
            f"{where}: line {num_before + reader.line_num} is no row of a CSV file ({printable(error)})"
        ) from None


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
