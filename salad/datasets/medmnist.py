"""Read `MedMNIST`: any two-dimensional .npz of MedMNIST, 28 to 224 pixels, grey or RGB."""

import logging
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salad.datasets.layout import find_root
from salad.datasets.tables import shown
from salad.errors import InputError, printable
from salad.images.npz import Header, check_images, load_labels, read_headers
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

logger = logging.getLogger(__name__)

NORMAL_OF = {
    "pneumoniamnist": "0",
    "breastmnist": "1",
    "octmnist": "3",
}  # classes that the data set itself names normal
NO_FINDING, FINDING = "no finding", "finding"  # classes for sets with several labels per image, such as chestmnist


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split, in the order of the array.

    Args:
        data_path: the .npz file, or a folder that holds one.
        split: ``train``, ``val`` or ``test``.
        selection: its `normal_class` is the index of the normal class; by default the class that the data set names
            normal, if it has one. With several labels per image, an image is normal if all its labels are 0.

    Returns:
        The split; None if there is no val.

    Raises:
        InputError: the file is missing, damaged or three-dimensional, or the normal class is ambiguous.
        OSError: the folder cannot be listed.
    """
    path = find_file(data_path)
    headers = read_headers(path)
    if split == "val" and not headers.get("val_images", Header((0,), np.dtype(np.uint8))).shape[0]:
        return None
    array = f"{split}_images"
    labels = _labels(path, split, headers)
    if labels.shape[1] > 1:
        normal = _no_finding(path, selection.normal_class)
        classes: tuple[str, ...] = (NO_FINDING, FINDING)
        findings = [tuple(str(column) for column in np.flatnonzero(row)) for row in labels]
    else:
        known = {*labels[:, 0].tolist(), *_labels(path, "train", headers)[:, 0].tolist()}
        classes = tuple(str(value) for value in sorted(known))
        normal = choose_class(classes, selection.normal_class, path, say=split != "val")
        findings = [(str(value),) for value in labels[:, 0].tolist()]
    normal_findings = () if normal == NO_FINDING else (normal,)
    samples = [
        Sample(
            path,
            f"{array}/{row}",
            NORMAL if row_findings == normal_findings else ABNORMAL,
            row=row,
            array=array,
            findings=row_findings,
        )
        for row, row_findings in enumerate(findings)
    ]
    return Split(samples=samples, normal_class=normal, classes=classes)


def find_file(data_path: Path) -> Path:
    """Find the .npz file.

    Args:
        data_path: the file, or a folder that holds one.

    Returns:
        Path of the file.

    Raises:
        InputError: there is no .npz file, or more than one.
        OSError: the folder cannot be listed.
    """
    where = printable(data_path)
    if not data_path.is_dir():
        if not data_path.is_file():
            raise InputError(f"{where}: no such file or folder")
        return data_path
    data_path = find_root(data_path, lambda folder: any(folder.glob("*.npz")))
    paths = sorted(data_path.glob("*.npz"))
    if len(paths) != 1:
        held = f"{len(paths)} .npz files ({shown(path.name for path in paths)}): name one" if paths else "no .npz file"
        raise InputError(f"{where}: holds {held}")
    return paths[0]


def _labels(path: Path, split: str, headers: dict[str, Header]) -> NDArray[np.int64]:
    """Load the labels of a split, (N, K); check its images and labels."""
    images, labels = f"{split}_images", f"{split}_labels"
    if images not in headers or labels not in headers:
        raise InputError(
            f"{printable(path)}: must hold {images} and {labels}, but holds {shown(headers) or 'no array'}"
        )
    check_images(path, images, headers[images])
    loaded = load_labels(path, labels)
    if not loaded.size:
        raise InputError(f"{printable(path)}: {labels} is {loaded.shape}, empty: {split} must hold labelled images")
    if len(loaded) != headers[images].shape[0]:
        raise InputError(f"{printable(path)}: {images} has {headers[images].shape[0]} rows, but {labels} {len(loaded)}")
    return loaded


def choose_class(classes: tuple[str, ...], asked: str | None, path: Path, *, say: bool) -> str:
    """Choose the normal class.

    Args:
        classes: indices of all classes, as text.
        asked: index of the requested class; None for the one that the data set names normal.
        path: the .npz file, whose name tells the data set.
        say: True to log a default choice.

    Returns:
        Index of the normal class, as text.

    Raises:
        InputError: the requested class does not exist, or none is requested and the data set has no default.
    """
    match = re.match(r"[a-z]+mnist", path.name.lower())
    own, where = NORMAL_OF.get(match[0]) if match else None, printable(path)
    if asked is not None and asked not in classes:
        raise InputError(f"{where}: has no class {printable(asked)[:40]}; --normal_class may be {shown(classes)}")
    if asked is None and own not in classes:
        raise InputError(f"{where}: which of the classes {shown(classes)} is normal? Choose it with --normal_class")
    if asked is None and say:
        logger.info("class %s is normal by default in %s", own, path.name)
    if asked is not None and own not in (None, asked):
        logger.warning("class %s counts as normal, but the normal class of %s is %s", asked, path.name, own)
    normal = own if asked is None else asked
    assert normal is not None
    return normal


def _no_finding(path: Path, asked: str | None) -> str:
    if asked not in (None, NO_FINDING):
        raise InputError(
            f"{printable(path)}: has several labels per image, normal if all are 0: leave --normal_class out"
        )
    return NO_FINDING
