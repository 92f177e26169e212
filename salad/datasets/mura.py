"""Read `MURA` v1.1: bone radiographs, trained on the negative studies of train and tested on valid."""

import re
from pathlib import Path

from salad.datasets.layout import find_root
from salad.datasets.lists import inner_name, make_split
from salad.datasets.tables import read_text, shown
from salad.errors import InputError, printable
from salad.images.names import find_file, with_slashes
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

NORMAL_CLASS = "negative"
CLASSES = (NORMAL_CLASS, "positive")
LISTS = {"train": "train_image_paths.csv", "test": "valid_image_paths.csv"}  # the test set of MURA is not public
LINE = re.compile(r"(?:.*/)?((?:train|valid)/(XR_\w+)/(patient\w+)/(study\w+)_(positive|negative)/[^/]+)")


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split; there is no val.

    Args:
        data_path: the folder MURA-v1.1, or a folder above it.
        split: ``train``, ``val`` or ``test``.
        selection: `part` applies, for example ``XR_HAND`` or ``hand``.

    Returns:
        The split; None for val.

    Raises:
        InputError: the list or all images are missing, a line is not a path of MURA, or the body part is unknown.
    """
    if split == "val":
        return None
    folder = find_root(data_path, lambda folder: (folder / LISTS[split]).is_file())
    if not (folder / LISTS[split]).is_file():
        raise InputError(f"{printable(data_path)}: holds no {LISTS[split]}, as MURA v1.1 does")
    samples, absent, parts = [], [], set()
    for number, line in enumerate(read_text(folder / LISTS[split]).splitlines(), start=1):
        if not line.strip():
            continue
        match = LINE.fullmatch(with_slashes(line))
        if match is None:
            raise InputError(f"{printable(folder / LISTS[split])}: line {number} is no path of an image of MURA")
        inside, part, patient, study, sign = match.groups()
        parts.add(part)
        word = part.removeprefix("XR_")
        if selection.part is not None and selection.part.upper() not in (part, word):
            continue
        path = find_file(inside, folder)
        name = inner_name(path, data_path)
        if not path.exists():
            absent.append(name)
            continue
        label = NORMAL if sign == NORMAL_CLASS else ABNORMAL
        study_id = f"{part}/{patient}/{study}"
        samples.append(Sample(path, name, label, patient=patient, study=study_id, part=word, findings=(sign,)))
    if not samples and not absent and parts:
        asked = printable(selection.part)[:40]
        raise InputError(f"--part is {asked}, but {LISTS[split]} has {shown(sorted(parts))}")
    return make_split(samples, split=split, where=folder, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent)
