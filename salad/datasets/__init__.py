"""Data sets by name, each with the function that lists the samples of a split."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from salad.datasets import chexpert, folders, medianomaly, medmnist, mura, nih, own_folders, rsna, table, vindr
from salad.datasets.hold_out import hold_out
from salad.datasets.layout import check_there, sub_folders
from salad.errors import InputError, printable
from salad.images.film_facts import CHEST
from salad.samples import Selection, Split, SplitReader

logger = logging.getLogger(__name__)

MADE = {"CXR_phantom"}  # made where DATA_PATH does not hold it
OF_ALL = {"normal_class", "val_share"}  # options that every data set takes


class DataSet(NamedTuple):
    """Reader of a data set and the options that it takes.

    Attributes:
        read: function that lists the samples of a split.
        takes: options that select images, besides those of `OF_ALL`.
        normal: name of the normal class; None if the user may choose it.
        by_order: True if the first class counts as normal unless another is asked for.
        licence: terms under which its images are published; empty if they are not known here.
        part: body part that all of its images show; empty if it is not known here, or a `Sample` tells it.
    """

    read: SplitReader
    takes: tuple[str, ...] = ()
    normal: str | None = None
    by_order: bool = False
    licence: str = ""
    part: str = ""


def _read_phantom(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List a split of `CXR_phantom`; draw the radiographs first if DATA_PATH is empty."""
    from salad.datasets.phantom import write_phantom

    if not data_path.exists() or (data_path.is_dir() and not sub_folders(data_path)):
        write_phantom(data_path)
    return folders.read_split(data_path, split, selection)


DATASETS: dict[str, DataSet] = {
    "CXR_author": DataSet(folders.read_split, by_order=True),
    "Folders": DataSet(own_folders.read_split, takes=("abnormal",), normal=own_folders.NORMAL_CLASS),
    "CXR_phantom": DataSet(_read_phantom, licence="none needed, since this program has drawn them", part=CHEST),
    "NIH": DataSet(
        nih.read_split,
        takes=("split_dir", "view", "min_age"),
        normal=nih.NORMAL_CLASS,
        licence="no restrictions; cite Wang et al., CVPR 2017, and name the NIH Clinical Center as their source",
        part=CHEST,
    ),
    "MURA": DataSet(mura.read_split, takes=("part",), normal=mura.NORMAL_CLASS),
    "MedMNIST": DataSet(medmnist.read_split, licence="CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)"),
    "MedIAnomaly": DataSet(medianomaly.read_split, normal=medianomaly.NORMAL_CLASS),
    "RSNA": DataSet(rsna.read_split, takes=("split_dir",), normal=rsna.NORMAL_CLASS, part=CHEST),
    "VinDr": DataSet(vindr.read_split, takes=("split_dir",), normal=vindr.NORMAL_CLASS, part=CHEST),
    "CheXpert": DataSet(chexpert.read_split, takes=("view", "min_age"), normal=chexpert.NORMAL_CLASS, part=CHEST),
    "Table": DataSet(table.read_split),
}


def check_dataset(name: str, selection: Selection | None = None) -> None:
    """Refuse an unknown data set and options that it does not take.

    Args:
        name: to look up in `DATASETS`.
        selection: options of the user; None for none.

    Raises:
        InputError: the name is unknown, or an option does not apply to this data set.
    """
    if name not in DATASETS:
        raise InputError(f"no data set is called '{name}': choose one of {', '.join(DATASETS)}")
    selection, dataset = selection or Selection(), DATASETS[name]
    for option in (declared.name for declared in fields(Selection) if declared.name not in OF_ALL):
        if getattr(selection, option) is not None and option not in dataset.takes:
            taking = ", ".join(other for other, entry in DATASETS.items() if option in entry.takes)
            raise InputError(f"--{option} selects from {taking}, not from {name}: leave it out")
    if dataset.normal is not None and selection.normal_class not in (None, dataset.normal):
        asked = printable(selection.normal_class)
        raise InputError(f"--normal_class is '{asked}', but in {name} '{dataset.normal}' is normal: leave it out")


def read_split(dataset_name: str, data_path: Path, split: str, *, selection: Selection | None = None) -> Split | None:
    """List the samples of a split of a data set.

    Args:
        dataset_name: one of `DATASETS`.
        data_path: folder or file of the data set.
        split: ``train``, ``val`` or ``test``.
        selection: images to use; by default all images and the data set's default normal class.

    Returns:
        The split; None for a val that does not exist and is not held out from train.

    Raises:
        InputError: the data set is unknown, DATA_PATH does not hold it, or an option does not apply to it.
    """
    selection = selection or Selection()
    check_dataset(dataset_name, selection)
    read, share = DATASETS[dataset_name].read, selection.val_share
    try:
        if dataset_name not in MADE:
            check_there(data_path)
        listed = read(data_path, split, selection)
        if share == 0 or split == "test" or (split == "val" and listed):
            return listed
        with _muted():  # the messages about the other split appear when that split is read
            other = read(data_path, "train" if split == "val" else "val", selection)
    except OSError as error:  # no permission, a network drive that is gone
        raise InputError(f"{printable(error.filename or data_path)}: cannot be listed ({error.strerror})") from None
    if split == "train" and other:
        return listed
    train = listed or other
    assert train is not None, "only val may be absent"
    rest, held = hold_out(train, share)
    if split == "train":
        return rest
    if held:
        num_held, num_images = f"{len(held.samples):,}", f"{len(train.samples):,}"
        logger.info("val: none, so %s of %s training images are held out", num_held, num_images)
    return held


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Mute the log messages of the readers."""
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
