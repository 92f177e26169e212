"""Read boxes.csv, boxes that experts drew in the images of class folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from salad.datasets.tables import Row, parse_box, read_rows
from salad.errors import InputError, printable
from salad.images.names import name_key, with_slashes
from salad.samples import Box

NAMES = ("boxes.csv", "boxes.tsv")
BOX = ("x", "y", "width", "height")
LABELS = ("label", "finding")


@dataclass(kw_only=True)
class Boxes:
    """Boxes of one image and their labels, without repeats."""

    boxes: tuple[Box, ...] = ()
    labels: tuple[str, ...] = ()


def is_boxes_table(path: Path) -> bool:
    """Tell a table of boxes from other tables, by its name and its columns `BOX`.

    Raises:
        InputError: the table cannot be read.
    """
    if path.name.lower() not in NAMES:
        return False
    _, first = next(read_rows(path, optional=BOX), (0, {}))
    return first.keys() >= {*BOX}


def read_boxes(path: Path) -> dict[str, Boxes]:
    """Read the boxes of each image, by its path or file name in the table; an image may have several rows, or none.

    A row whose four numbers are all empty says that an image has no box.

    Args:
        path: table with the columns path, x, y, width and height, in pixels of the file, and at will label.

    Raises:
        InputError: the table has no column ``path``, or a row does not describe a box.
    """
    found: dict[str, Boxes] = {}
    for line, row in read_rows(path, needed=("path", *BOX), optional=LABELS):
        if not any(row[name] for name in BOX):
            continue
        where = f"{printable(path)}: line {line}"
        image = name_key(printable(with_slashes(row["path"]).removeprefix("./")))
        if not image:
            raise InputError(f"{where}: column 'path' is empty: name the image of the box")
        own = found.setdefault(image, Boxes())
        own.boxes += (_parse(row, where),)
        label = next((row[name] for name in LABELS if row.get(name)), "")
        own.labels = tuple(dict.fromkeys((*own.labels, *filter(None, [label]))))
    return found


def _parse(row: Row, where: str) -> Box:
    """Parse the box of a row; the error names its column."""
    for name in BOX:
        try:
            value = float(row[name])
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            shown = printable(row[name][:40])
            raise InputError(
                f"{where}: column '{name}' is '{shown}', which is no number: boxes are in pixels of the file"
            )
        if name in ("width", "height") and value <= 0:
            raise InputError(f"{where}: column '{name}' is {row[name]}, but must be above 0")
    box = parse_box(*(row[name] for name in BOX), are_sizes=True)
    assert box is not None, "its numbers have been checked"
    return box
