"""Read `CheXpert`: frontal radiographs, trained on train.csv and tested on valid.csv."""

import re
from pathlib import Path

from salad.datasets.lists import inner_name, is_old_enough, make_split
from salad.datasets.tables import age_in_years, read_rows
from salad.errors import InputError, printable
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

NORMAL_CLASS = "No Finding"
CLASSES = (NORMAL_CLASS, "Finding")
TABLES = {"train": "train.csv", "test": "valid.csv"}
PATH, SEX, AGE, SIDE, VIEW = "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"
ABOUT = (PATH, SEX, AGE, SIDE, VIEW)  # the other columns are findings
INSIDE = re.compile(r"(?:.*/)?((?:train|valid)/(patient\w+)/(study\w+)/[^/]+)")


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the frontal images of a split; there is no val.

    An image is normal if No Finding is 1. All others are abnormal, even if every finding is uncertain or missing.

    Args:
        data_path: the folder CheXpert-v1.0 or CheXpert-v1.0-small, with train.csv and valid.csv.
        split: ``train``, ``val`` or ``test``.
        selection: `view` and `min_age` apply.

    Returns:
        The split; None for val.

    Raises:
        InputError: the table or all images are missing, or a path does not have the form of CheXpert.
    """
    if split == "val":
        return None
    table = data_path / TABLES[split]
    samples, absent = [], []
    for number, row in read_rows(table, needed=(PATH, AGE, SIDE, VIEW, NORMAL_CLASS)):
        if row[SIDE] != "Frontal" or selection.view not in (None, row[VIEW]):
            continue
        if not is_old_enough(row[AGE], selection.min_age):
            continue
        match = INSIDE.fullmatch(row[PATH])
        if match is None:
            raise InputError(f"{printable(table)}: line {number} has no path of an image of CheXpert")
        path = data_path / match[1]
        name = inner_name(path, data_path)
        if not path.exists():
            absent.append(name)
            continue
        samples.append(
            Sample(
                path,
                name,
                NORMAL if is_one(row[NORMAL_CLASS]) else ABNORMAL,
                patient=match[2],
                study=f"{match[2]}/{match[3]}",
                view=row[VIEW] or None,
                findings=tuple(column for column, text in row.items() if column not in ABOUT and is_one(text)),
                sex=row.get(SEX) or None,
                age=age_in_years(row[AGE]),
            )
        )
    return make_split(samples, split=split, where=table, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent)


def is_one(text: str) -> bool:
    """Return True for a positive finding: 1.0 is positive, 0.0 negative, -1.0 uncertain, empty not mentioned."""
    return text in ("1.0", "1")
