"""`RSNA`: the pneumonia detection challenge as it is downloaded; "Normal" is normal, both other classes are not."""

from collections import defaultdict
from pathlib import Path

from salad.datasets.lists import find_members, make_split, place_samples
from salad.datasets.tables import parse_box, read_rows, shown
from salad.errors import InputError, printable
from salad.samples import ABNORMAL, NORMAL, Box, Sample, Selection, Split

NORMAL_CLASS = "Normal"
CLASSES = (NORMAL_CLASS, "No Lung Opacity / Not Normal", "Lung Opacity")
CLASS_FILE, LABEL_FILE = "stage_2_detailed_class_info.csv", "stage_2_train_labels.csv"


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of one split.

    The images of the challenge's own test part have no labels. So its train part is split by the lists in
    --split_dir or, without, by a digest of the patient's id, of which the challenge has one an image.

    Args:
        data_path: holds both CSV files of labels and, at any depth, the images, DICOM or others, named by id.
        split: ``train``, ``val`` or ``test``.
        selection: takes `split_dir`.

    Raises:
        InputError: a file of labels or all images are missing, or the labels contradict each other.
        OSError: a folder cannot be listed.
    """
    classes, boxes = read_classes(data_path), read_boxes(data_path)
    members = find_members(data_path, split, split_dir=selection.split_dir, by_stem=True)
    if members is None:
        return None
    drafts = [
        Sample(
            Path(),
            name,
            NORMAL if found == NORMAL_CLASS else ABNORMAL,
            patient=name,
            findings=(found,),
            boxes=boxes[name],
        )
        for name, found in classes.items()
    ]
    samples, absent = place_samples(drafts, known=classes, members=members, data_path=data_path, by_stem=True)
    return make_split(samples, split=split, where=data_path, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent)


def read_classes(data_path: Path) -> dict[str, str]:
    """The class of every labelled image, by id; an image with several boxes has several rows.

    Raises:
        InputError: a file is missing, or an image has two classes, or is normal and has a box.
    """
    classes: dict[str, str] = {}
    where = printable(data_path / CLASS_FILE)
    for number, row in read_rows(data_path / CLASS_FILE, needed=("patientId", "class")):
        if row["class"] not in CLASSES:
            raise InputError(f"{where}: line {number} has none of the classes {shown(CLASSES)}")
        if classes.setdefault(row["patientId"], row["class"]) != row["class"]:
            raise InputError(f"{where}: line {number} gives an image a second class")
    for number, row in read_rows(data_path / LABEL_FILE, needed=("patientId", "Target")):
        if row["Target"] == "1" and classes.get(row["patientId"]) == NORMAL_CLASS:
            raise InputError(
                f"{printable(data_path / LABEL_FILE)}: line {number} shows an opacity in an image that {CLASS_FILE} "
                f"calls {NORMAL_CLASS}"
            )
    return classes


def read_boxes(data_path: Path) -> dict[str, tuple[Box, ...]]:
    """Where opacities are, by the image's id; of images that are not named there, nowhere."""
    boxes: dict[str, tuple[Box, ...]] = defaultdict(tuple)
    for _, row in read_rows(data_path / LABEL_FILE, needed=("patientId", "Target")):
        if box := parse_box(*(row.get(name, "") for name in ("x", "y", "width", "height")), are_sizes=True):
            boxes[row["patientId"]] += (box,)
    return boxes
