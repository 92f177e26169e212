"""Read `RSNA`: the pneumonia detection challenge as downloaded; both classes except "Normal" are abnormal."""

from collections import defaultdict
from pathlib import Path

from salad.datasets.layout import find_root
from salad.datasets.lists import find_members, make_split, place_samples
from salad.datasets.tables import parse_box, read_rows, shown
from salad.errors import InputError, printable
from salad.samples import ABNORMAL, NORMAL, Box, Sample, Selection, Split

NORMAL_CLASS = "Normal"
CLASSES = (NORMAL_CLASS, "No Lung Opacity / Not Normal", "Lung Opacity")
CLASS_FILE, LABEL_FILE = "stage_2_detailed_class_info.csv", "stage_2_train_labels.csv"


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split.

    The test images of the challenge have no labels. So its training images are split, by the lists in --split_dir
    or, without lists, by a digest of the patient's id. Every image has its own patient id.

    Args:
        data_path: folder with both CSV files of labels and, at any depth, the images, DICOM or others, named by id.
        split: ``train``, ``val`` or ``test``.
        selection: `split_dir` applies.

    Returns:
        The split; None if there are lists, but none for val.

    Raises:
        InputError: a file of labels or all images are missing, or labels contradict each other.
        OSError: a folder cannot be listed.
    """
    root = find_root(data_path, lambda folder: (folder / CLASS_FILE).is_file())
    classes, boxes = read_classes(root), read_boxes(root)
    members = find_members(root, split, split_dir=selection.split_dir, by_stem=True)
    if members is None:
        return None
    drafts = [
        Sample(
            Path(),
            name,
            NORMAL if finding == NORMAL_CLASS else ABNORMAL,
            patient=name,
            findings=(finding,),
            boxes=boxes[name],
        )
        for name, finding in classes.items()
    ]
    samples, absent = place_samples(drafts, known=classes, members=members, data_path=data_path, by_stem=True)
    return make_split(samples, split=split, where=data_path, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent)


def read_classes(data_path: Path) -> dict[str, str]:
    """Read the class of every labelled image; an image with several boxes has several rows.

    Args:
        data_path: folder with both CSV files of labels.

    Returns:
        Class by image id.

    Raises:
        InputError: a file is missing, an image has two classes, or a normal image has a box.
    """
    classes: dict[str, str] = {}
    where = printable(data_path / CLASS_FILE)
    for number, row in read_rows(data_path / CLASS_FILE, needed=("patientId", "class")):
        if row["class"] not in CLASSES:
            raise InputError(f"{where}: line {number} has none of the classes {shown(CLASSES)}")
        if classes.setdefault(row["patientId"], row["class"]) != row["class"]:
            raise InputError(f"{where}: line {number} gives an image a second class")
    for number, row in read_rows(data_path / LABEL_FILE, needed=("patientId", "Target")):
        if row["Target"] in ("1", "1.0") and classes.get(row["patientId"]) == NORMAL_CLASS:
            raise InputError(
                f"{printable(data_path / LABEL_FILE)}: line {number} shows an opacity in an image that {CLASS_FILE} "
                f"calls {NORMAL_CLASS}"
            )
    return classes


def read_boxes(data_path: Path) -> dict[str, tuple[Box, ...]]:
    """Read the boxes of opacities, by image id; images without boxes get an empty tuple."""
    boxes: dict[str, tuple[Box, ...]] = defaultdict(tuple)
    for _, row in read_rows(data_path / LABEL_FILE, needed=("patientId", "Target")):
        if box := parse_box(*(row.get(name, "") for name in ("x", "y", "width", "height")), are_sizes=True):
            boxes[row["patientId"]] += (box,)
    return boxes
