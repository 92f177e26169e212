"""Read `VinDr`: VinDr-CXR from PhysioNet or Kaggle; most of its radiologists decide that an image is normal."""

from collections import defaultdict
from pathlib import Path

from salad.datasets.layout import find_root
from salad.datasets.lists import Members, find_members, make_split, place_samples
from salad.datasets.tables import Row, parse_box, read_rows
from salad.datasets.words import class_key
from salad.errors import InputError, printable
from salad.images.names import last_part
from salad.samples import ABNORMAL, NORMAL, Box, Sample, Selection, Split

NORMAL_CLASS = "No finding"
CLASSES = (NORMAL_CLASS, "Finding")
IMAGE, READER, FINDING = "image_id", "rad_id", "class_name"
# One row per image and reader with a column per finding, or one row per finding; PhysioNet has both.
TABLES = (
    "annotations/image_labels_{}.csv",
    "image_labels_{}.csv",
    "{}.csv",
    "annotations/annotations_{}.csv",
    "annotations_{}.csv",
)
BOX_TABLES = (*TABLES[3:], TABLES[2])  # boxes come from the first of these tables that exists
BOX = ("x_min", "y_min", "x_max", "y_max")

Readings = dict[str, dict[str, set[str]]]  # findings by image and reader


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split.

    PhysioNet's train and test are used unchanged, without val. With --split_dir, lists define the splits of all
    labelled images. Kaggle's test images have no labels: its training images are split, by lists or by a digest of
    the image's id, because the patients are unknown.

    Args:
        data_path: folder with train.csv or annotations/ and, at any depth, the images, DICOM or others, named by id.
        split: ``train``, ``val`` or ``test``.
        selection: `split_dir` applies.

    Returns:
        The split; None if there is no val.

    Raises:
        InputError: the labels or all images are missing.
        OSError: a folder cannot be listed.
    """
    root = find_root(data_path, lambda folder: find_table(folder, "train") is not None)
    tables = {part: find_table(root, part) for part in ("train", "test")}
    if tables["train"] is None:
        raise InputError(f"{printable(data_path)}: holds none of {', '.join(name.format('train') for name in TABLES)}")
    if selection.split_dir is None and tables["test"] is not None:
        table = tables.get(split)
        if table is None:
            return None
        readings, parts = read_readings(table), [split]
        members: Members | None = Members(split, dict.fromkeys(map(last_part, readings)))
    else:
        readings = {
            image: by_reader for table in tables.values() if table for image, by_reader in read_readings(table).items()
        }
        parts = [*tables]
        members = find_members(root, split, split_dir=selection.split_dir, by_stem=True)
    if members is None:
        return None
    boxes = read_boxes(root, parts)
    drafts = [
        Sample(
            Path(),
            name,
            majority(by_reader),
            findings=tuple(sorted(set().union(*by_reader.values()))),
            boxes=boxes[name],
        )
        for name, by_reader in readings.items()
    ]
    samples, absent = place_samples(drafts, known=readings, members=members, data_path=data_path, by_stem=True)
    return make_split(samples, split=split, where=data_path, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent)


def find_table(data_path: Path, part: str, *, names: tuple[str, ...] = TABLES) -> Path | None:
    """Find the table of ``train`` or ``test``; return None if there is none."""
    return next((data_path / name.format(part) for name in names if (data_path / name.format(part)).is_file()), None)


def read_boxes(data_path: Path, parts: list[str]) -> dict[str, tuple[Box, ...]]:
    """Read the boxes of all readers in images of `parts`, by image id; other images get an empty tuple."""
    boxes: dict[str, tuple[Box, ...]] = defaultdict(tuple)
    for part in parts:
        table = find_table(data_path, part, names=BOX_TABLES)
        for _, row in read_rows(table, optional=(IMAGE, FINDING, *BOX)) if table else ():
            box = parse_box(*(row.get(name, "") for name in BOX))
            if box and class_key(row.get(FINDING, "")) != class_key(NORMAL_CLASS):
                boxes[row.get(IMAGE, "")] += (box,)
    return boxes


def read_readings(table: Path) -> Readings:
    """Read the findings of each reader in each image.

    Args:
        table: CSV file in one of the two forms of `TABLES`.

    Returns:
        Findings by image and reader.

    Raises:
        InputError: the table cannot be read, or has neither form.
    """
    readings: Readings = defaultdict(lambda: defaultdict(set))
    for _, row in read_rows(table, needed=(IMAGE,), optional=(READER, FINDING, NORMAL_CLASS)):
        if FINDING not in row and NORMAL_CLASS not in row:
            raise InputError(f"{printable(table)}: has neither a column '{FINDING}' nor one '{NORMAL_CLASS}'")
        readings[row[IMAGE]][row.get(READER, "")].update(_findings(row))
    return readings


def _findings(row: Row) -> list[str]:
    if FINDING in row:
        return [NORMAL_CLASS if class_key(row[FINDING]) == class_key(NORMAL_CLASS) else row[FINDING]]
    return [column for column, text in row.items() if column not in (IMAGE, READER) and text in ("1", "1.0")]


def majority(by_reader: dict[str, set[str]]) -> int:
    """Return the label of an image: normal if more than half of the readers say "No finding"."""
    num_normal = sum(NORMAL_CLASS in findings for findings in by_reader.values())
    return NORMAL if 2 * num_normal > len(by_reader) else ABNORMAL
