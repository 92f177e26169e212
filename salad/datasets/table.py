"""Read `Table`: any CSV, TSV or JSON-lines file with the columns path, label[, split, patient_id, finding]."""

import logging
import os
import shlex
from pathlib import Path

from salad.datasets.cells import ROUNDED, age_in_years, id_of, known, sex_of, unquoted, view_of
from salad.datasets.layout import SPLIT_NAMES, find_root
from salad.datasets.lists import inner_name, make_split
from salad.datasets.tables import Row, matched_names, read_rows, read_text, shown, similar_name
from salad.datasets.words import Sense, class_key, sense_of
from salad.errors import InputError, printable
from salad.images.names import find_file, shortened
from salad.input_files import parse_json
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

logger = logging.getLogger(__name__)

NEEDED = ("path", "label")
OPTIONAL = ("split", "patient_id", "study_id", "finding", "view", "sex", "age")
JSON_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)
SAME_NUMBER = {"0.0": "0", "0.": "0", "1.0": "1", "1.": "1"}
NO_LABEL = {"nan", "na", "n/a", "<na>", "#n/a", "null"}  # of a spreadsheet or a data frame
WAYS = "give it a column split (train, val, test), or put train.csv, val.csv and test.csv into one folder"


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split.

    A missing image file is no error here: it is treated later as an image that cannot be read.

    Args:
        data_path: the table, or a folder with one table or one table per split; paths in a table are relative to
            its folder.
        split: ``train``, ``val`` or ``test``.
        selection: its `normal_class` is the label of normal images; by default 0, or the one label that means normal.

    Returns:
        The split; None if there is no val.

    Raises:
        InputError: the table is missing, cannot be read or is invalid.
        OSError: the folder cannot be listed.
    """
    table, holds_all = find_table(data_path, split)
    if table is None:
        return None
    read = read_table(table)
    if read and split != "val":
        _say_unknown(table, read[0][1])
    rows = rows_of(split, read, table=table, holds_all=holds_all)
    _say_rounded(table, [row for _, row in rows])
    labels = sorted({row["label"] for _, row in rows})
    normal = choose_normal_label(labels, selection.normal_class, table, is_train=split == "train") if rows else ""
    samples: list[Sample] = []
    lines: dict[str, int] = {}
    for number, row in rows:
        sample = make_sample(row, normal, table=table, number=number)
        if lines.setdefault(sample.name, number) != number:
            twice = f"lines {lines[sample.name]} and {number}"
            raise InputError(
                f"{printable(table)}: {twice} name the same image of {split}, {shortened(sample.name, 200)}"
            )
        samples.append(sample)
    return make_split(samples, split=split, where=table, classes=tuple(labels), normal_class=normal, absent=[])


def read_table(table: Path, *, needed: tuple[str, ...] = NEEDED) -> list[tuple[int, Row]]:
    """Read a table of any of `SUFFIXES` as pairs of line number and row; other columns of ours may be missing.

    Raises:
        InputError: the table cannot be read, or lacks a needed column.
    """
    optional = tuple(name for name in (*NEEDED, *OPTIONAL) if name not in needed)
    if table.suffix.lower() in JSON_SUFFIXES:
        return read_json_lines(table, needed=needed)
    return list(read_rows(table, needed=needed, optional=optional))


def _say_unknown(table: Path, row: Row) -> None:
    """Log the columns that are not read although their names are similar to those of known columns that are absent."""
    missing = [name for name in OPTIONAL if name not in row]
    for name in row:
        if name not in (*NEEDED, *OPTIONAL) and (meant := similar_name(name, missing)):
            logger.warning("%s: its column '%s' is not read: is it '%s'?", printable(table), shortened(name), meant)


def _say_rounded(table: Path, rows: list[Row]) -> None:
    """Log the identifiers that count as unknown because a spreadsheet has rounded them."""
    for name in ("patient_id", "study_id"):
        rounded = [cell for row in rows if ROUNDED.fullmatch(cell := unquoted(row.get(name, "")))]
        if rounded:
            logger.warning(
                "%s: %d cells of %s count as unknown, because a spreadsheet has rounded them, such as %s",
                *(printable(table), len(rounded), name, shortened(rounded[0])),
            )


def find_table(data_path: Path, split: str) -> tuple[Path | None, bool]:
    """Find the table of a split.

    Args:
        data_path: the table, or a folder of tables.
        split: ``train``, ``val`` or ``test``.

    Returns:
        The table, None if val has none; and True if the table holds all splits.

    Raises:
        InputError: there is no table, or the choice is ambiguous.
        OSError: the folder cannot be listed.
    """
    where, kinds = printable(data_path), ", ".join(SUFFIXES)
    if not data_path.is_dir():
        if data_path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{where}: must be a table ({kinds}) or a folder of tables")
        return data_path, True
    data_path = find_root(data_path, _tables_in)
    tables = _tables_in(data_path)
    by_split = {name: [path for path in tables if path.stem.lower() in words] for name, words in SPLIT_NAMES.items()}
    if not by_split["train"] and not by_split["test"]:
        if len(tables) == 1:
            return tables[0], True
        held = f"several tables ({shown(path.name for path in tables)})" if tables else f"no table ({kinds})"
        raise InputError(f"{where}: holds {held}; name one as DATA_PATH, or put train.csv, val.csv and test.csv there")
    if len(by_split[split]) > 1:
        raise InputError(f"{where}: holds {shown(path.name for path in by_split[split])}: leave one table of {split}")
    if not by_split[split] and split != "val":
        raise InputError(f"{where}: holds no table of {split} (such as {split}.csv), but tables of other splits")
    return (by_split[split][0] if by_split[split] else None), False


def _tables_in(folder: Path) -> list[Path]:
    """List the tables directly in a folder, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def rows_of(split: str, rows: list[tuple[int, Row]], *, table: Path, holds_all: bool) -> list[tuple[int, Row]]:
    """Select the rows of a split, check them, and unify the spelling of their labels.

    Args:
        split: ``train``, ``val`` or ``test``.
        rows: pairs of line number and row.
        table: path of the table, for messages.
        holds_all: True if the table holds all splits, which its column split then tells.

    Raises:
        InputError: the column split is missing or contradicts the table, or a cell of `NEEDED` is empty.
    """
    where = printable(table)
    if holds_all and any("split" not in row for _, row in rows):
        raise InputError(f"{where}: does not say which split each image belongs to: {WAYS}")
    meaning = {word: name for name, words in SPLIT_NAMES.items() for word in words}
    words = {row["split"].lower() for _, row in rows if "split" in row}
    if unknown := words - meaning.keys():
        held = shown(word or "empty cells" for word in sorted(unknown))
        raise InputError(f"{where}: its column split has {held}, but must have train, val or test")
    if not holds_all and (others := {word for word in words if meaning[word] != split}):
        raise InputError(f"{where}: is the table of {split}, but its column split has {shown(sorted(others))}")
    own = [(number, row) for number, row in rows if not holds_all or meaning[row["split"].lower()] == split]
    spelling: dict[str, str] = {}  # of a label, whose capitals may differ between rows
    for number, row in own:
        for name in NEEDED:
            if not row[name] or (name == "label" and row[name].lower() in NO_LABEL):
                raise InputError(f"{where}: line {number} has no {name}")
        label = SAME_NUMBER.get(row["label"], row["label"])
        row["label"] = spelling.setdefault(class_key(label), label)
    return own


def choose_normal_label(labels: list[str], asked: str | None, table: Path, *, is_train: bool) -> str:
    """Choose the label of normal images: the requested one, else 0 of 0 and 1, else the only one that means normal.

    Args:
        labels: all labels of the table.
        asked: requested label, or None.
        table: path of the table, for messages.
        is_train: True for the training split, where the label must occur.

    Returns:
        The label of normal images.

    Raises:
        InputError: the requested label does not occur and another label could be the normal one, or the choice is
            ambiguous.
    """
    sound_normal = [label for label in labels if sense_of(label) is Sense.NORMAL]
    if asked is not None:
        asked = SAME_NUMBER.get(asked.strip(), asked)
        same = [label for label in labels if class_key(label) == class_key(asked)]
        if not same and (is_train or sound_normal or "0" in labels):
            mismatch = f"{shortened(asked, 40)}, but the labels are {shown(labels)}"
            raise InputError(f"{printable(table)}: --normal_class is {mismatch}")
        return same[0] if same else asked
    if {"0", "1"}.issuperset(labels):
        return "0"
    if len(sound_normal) == 1 and not {"0", "1"}.intersection(labels):
        return sound_normal[0]
    advice = shlex.quote(sound_normal[0]) if len(sound_normal) == 1 else "LABEL"
    raise InputError(
        f"{printable(table)}: which of the labels {shown(labels)} is normal? Choose it with --normal_class {advice}"
    )


def make_sample(row: Row, normal: str, *, table: Path, number: int) -> Sample:
    """Make the sample of a row, which is normal if its label is this one.

    Raises:
        InputError: its path cannot be the name of a file.
    """
    try:
        encoded = os.fsencode(row["path"])
    except UnicodeEncodeError:  # a lone surrogate, which JSON can contain
        encoded = b"\0"
    if b"\0" in encoded:
        raise InputError(
            f"{printable(table)}: line {number} names {shortened(row['path'])}, which cannot be the name of a file"
        )
    path = find_file(row["path"], table.parent)
    finding = known(row.get("finding"))
    return Sample(
        path,
        inner_name(path, table.parent),
        NORMAL if row["label"] == normal else ABNORMAL,
        patient=id_of(row.get("patient_id")),
        study=id_of(row.get("study_id")),
        view=view_of(row.get("view")),
        findings=(finding,) if finding else (),
        sex=sex_of(row.get("sex")),
        age=age_in_years(row.get("age")),
    )


def read_json_lines(path: Path, *, needed: tuple[str, ...] = NEEDED) -> list[tuple[int, Row]]:
    """Read a file of JSON lines as rows of text.

    Args:
        path: the file.
        needed: columns that each line must have.

    Returns:
        Pairs of line number and row.

    Raises:
        InputError: the file cannot be read, a line is not an object, lacks a column, or has a list or an object as a
            value.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{printable(path)}: line {number}"
        try:
            values = parse_json(line)
        except ValueError as error:
            raise InputError(f"{where} is no JSON ({printable(error)[:200]})") from None
        if isinstance(values, dict):
            meant = matched_names(values, (*NEEDED, *OPTIONAL))
            values = {meant.get(name, name): value for name, value in values.items()}
        if not isinstance(values, dict) or not values.keys() >= set(needed):
            raise InputError(f"{where} is no object with {' and '.join(needed)}")
        rows.append((number, {name: _text(values[name], where) for name in (*NEEDED, *OPTIONAL) if name in values}))
    return rows


def _text(value: object, where: str) -> str:
    """Convert a JSON value to the text that a CSV file would hold."""
    if value is None:
        return ""
    if not isinstance(value, (str, int, float)):
        raise InputError(f"{where} has a list or an object as a value")
    return str(int(value)) if isinstance(value, bool) else str(value).strip()
