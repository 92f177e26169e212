"""Read `CheXpert`: frontal radiographs, trained on train.csv and tested on valid.csv."""

import re
from collections import defaultdict
from pathlib import Path

from salad.datasets.cells import age_in_years, sex_of, view_of
from salad.datasets.layout import MAX_DEPTH, find_root, sub_folders
from salad.datasets.lists import AgeFilter, inner_name, make_split
from salad.datasets.tables import read_rows
from salad.errors import InputError, printable
from salad.images.names import find_file, with_slashes
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

NORMAL_CLASS = "No Finding"
CLASSES = (NORMAL_CLASS, "Finding")
TABLES = {"train": "train.csv", "test": "valid.csv"}
PATH, SEX, AGE, SIDE, VIEW = "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"
ABOUT = (PATH, SEX, AGE, SIDE, VIEW)  # the other columns are findings
INSIDE = re.compile(r"(?:.*/)?((?:train|valid)/(patient\w+)/(study\w+)/[^/]+)")

BATCH = re.compile(r"batch \d+", re.IGNORECASE)  # in the names of the folders of the full data set


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the frontal images of a split; there is no val.

    An image is normal if No Finding is 1. All others are abnormal, even if every finding is uncertain or missing.

    Args:
        data_path: the folder CheXpert-v1.0 or CheXpert-v1.0-small, with train.csv and valid.csv; that of the tables
            or of all batches, where it was unpacked in batches; or a folder above.
        split: ``train``, ``val`` or ``test``.
        selection: `view` and `min_age` apply.

    Returns:
        The split; None for val.

    Raises:
        InputError: the table or all images are missing, or a path does not have the form of CheXpert.
    """
    if split == "val":
        return None
    root = find_root(data_path, lambda folder: (folder / TABLES[split]).is_file())
    table, images = root / TABLES[split], _Images(root, data_path)
    samples, absent, ages = [], [], AgeFilter(selection.min_age)
    for number, row in read_rows(table, needed=(PATH, AGE, SIDE, VIEW, NORMAL_CLASS)):
        if row[SIDE] != "Frontal" or selection.view not in (None, view_of(row[VIEW])):
            continue
        if not ages.keeps(row[AGE]):
            continue
        match = INSIDE.fullmatch(with_slashes(row[PATH]))
        if match is None:
            raise InputError(f"{printable(table)}: line {number} has no path of an image of CheXpert")
        path = images.find(match[1])
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
                view=view_of(row[VIEW]),
                findings=tuple(column for column, text in row.items() if column not in ABOUT and is_one(text)),
                sex=sex_of(row.get(SEX)),
                age=age_in_years(row[AGE]),
            )
        )
    ages.say(table, split)
    return make_split(samples, split=split, where=table, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent)


class _Images:
    """Images of a download: below the folder of the tables or, where it came in batches, in the other batches.

    Args:
        root: folder of the tables.
        data_path: folder of the data set.
    """

    def __init__(self, root: Path, data_path: Path) -> None:
        self.root = root
        self.starts = [data_path, *([root.parent] if BATCH.search(root.name) else [])]
        self.folders: dict[str, list[Path]] | None = None

    def find(self, inside: str) -> Path:
        """Find an image by its path in the table without its first folder, such as ``train/patient00001/...``."""
        path = find_file(inside, self.root)
        if path.exists():
            return path
        _, patient, rest = inside.split("/", 2)
        if self.folders is None:
            self.folders = self._list_patients()
        found = (folder / rest for folder in self.folders.get(patient, ()) if (folder / rest).exists())
        return next(found, path)

    def _list_patients(self) -> dict[str, list[Path]]:
        """List the folders of each patient in all batches."""
        folders: dict[str, list[Path]] = defaultdict(list)
        level = list(dict.fromkeys(self.starts))
        for _ in range(MAX_DEPTH):
            inner = [folder for start in level for folder in sub_folders(start)]
            for folder in inner:
                if folder.name.startswith("patient"):
                    folders[folder.name].append(folder)
            level = [folder for folder in inner if not folder.name.startswith("patient")]
        return folders


def is_one(text: str) -> bool:
    """Return True for a positive finding: 1.0 is positive, 0.0 negative, -1.0 uncertain, empty not mentioned."""
    return text in ("1.0", "1")
