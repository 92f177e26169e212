"""What the readers of lists share: where images lie, and which split an image belongs to."""

import hashlib
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from salad.datasets.folders import files_below
from salad.datasets.tables import age_in_years, read_text, shown
from salad.errors import InputError, printable
from salad.images.read import IMAGE_SUFFIXES
from salad.samples import Sample, Split

logger = logging.getLogger(__name__)

SUFFIXES = IMAGE_SUFFIXES | {".dcm", ".dicom"}
# The lists of a split, the first that is there: our own names, those of NIH, those of the split of Tang et al.
LISTS = {
    "train": ("train.txt", "train_val_list.txt"),
    "val": ("val.txt", "valid.txt"),  # NIH has none: its val is a part of train_val_list.txt
    "test": ("test.txt", "test_list.txt", "test_attending_rad.txt", "test_rad_consensus_voted3.txt"),
}
DRAWN_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of the patients, where a data set comes without splits


def index_images(data_path: Path, *, by_stem: bool = False) -> dict[str, Path]:
    """Where the images below a folder are, by their file names, or by these without the suffix.

    Raises:
        InputError: there is no such folder, or a name is there twice.
        OSError: a folder cannot be listed.
    """
    if not data_path.is_dir():
        raise InputError(f"{printable(data_path)}: no such folder")
    places: dict[str, Path] = {}
    for file in files_below(data_path):
        name = os.path.basename(file)  # noqa: PTH119  (a Path for each of a million names is slow)
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() not in SUFFIXES:
            continue
        key = stem if by_stem else name
        if key in places:
            twice = f"{inner_name(places[key], data_path)} and {inner_name(Path(file), data_path)}"
            raise InputError(f"{printable(data_path)}: holds {twice}, which are the same image: move one of them away")
        places[key] = Path(file)
    return places


def inner_name(path: Path, data_path: Path) -> str:
    """What outputs call a file: its path inside DATA_PATH."""
    inner = path.relative_to(data_path) if path.is_relative_to(data_path) else path
    return printable(inner.as_posix())


def is_old_enough(text: str, min_age: int | None) -> bool:
    """Whether an age, as written, is at least --min_age; one that cannot be read is not."""
    age = age_in_years(text)
    return min_age is None or (age is not None and age >= min_age)


@dataclass(frozen=True)
class Members:
    """Which images a split has: those of its list or, without lists, those of a share of the patients.

    Attributes:
        split: its name.
        listed: the images and the labels, where the list has any; None shares the patients out.
    """

    split: str
    listed: dict[str, int | None] | None

    def has(self, name: str, *, patient: str) -> bool:
        """Whether an image of a patient belongs to the split."""
        return drawn_split(patient) == self.split if self.listed is None else name in self.listed

    def label(self, name: str, *, otherwise: int) -> int:
        """The label that the list gives an image, else that of the data set."""
        label = None if self.listed is None else self.listed[name]
        return otherwise if label is None else label

    def missing(self, known: Iterable[str]) -> list[str]:
        """The images that the list names and the data set does not know."""
        return [] if self.listed is None else sorted(self.listed.keys() - set(known))


def find_members(data_path: Path, split: str, *, split_dir: Path | None, by_stem: bool = False) -> Members | None:
    """Which images a split has, by the lists in --split_dir, else by those in DATA_PATH, else by patient.

    Args:
        data_path: the data set.
        split: ``train``, ``val`` or ``test``.
        split_dir: folder of lists, or None.
        by_stem: whether images are known by their file names without the suffix.

    Returns:
        None where there are lists, but none for val.

    Raises:
        InputError: train or test has no list, or a list cannot be read.
    """
    folder = split_dir
    if folder is None and any((data_path / name).is_file() for part in ("train", "test") for name in LISTS[part]):
        folder = data_path
    if folder is None:
        if split != "val":
            shares = ", ".join(f"{share:.0%} {name}" for name, share in DRAWN_SHARES.items())
            logger.warning(
                "%s: comes without lists of its splits, so its patients are shared out by a digest of their ids (%s); "
                "--split_dir takes lists",
                data_path,
                shares,
            )
        return Members(split, None)
    found = [folder / name for name in LISTS[split] if (folder / name).is_file()]
    if not found and split == "val":
        return None
    if not found:
        raise InputError(
            f"{printable(folder)}: holds no list of {split}; it must be called {' or '.join(LISTS[split])}"
        )
    others = f", not by {shown(path.name for path in found[1:])}" if found[1:] else ""
    logger.info("%s: split by %s%s", split, printable(found[0]), others)
    listed = read_list(found[0])
    return Members(split, {Path(name).stem: label for name, label in listed.items()} if by_stem else listed)


def read_list(path: Path) -> dict[str, int | None]:
    """The images of a list, one a line, each with the label after it (0 normal, 1 abnormal) or None.

    Raises:
        InputError: it cannot be read, is empty, or gives an image two labels.
    """
    listed: dict[str, int | None] = {}
    for line in read_text(path).splitlines():
        found = re.fullmatch(r"(\S.*?)(?:[\s,;]+([01]))?", line.strip())
        if found is None:
            continue
        name, label = found[1].rpartition("/")[2], None if found[2] is None else int(found[2])
        if listed.setdefault(name, label) != label:
            raise InputError(f"{printable(path)}: gives {printable(name)[:80]} two labels")
    if not listed:
        raise InputError(f"{printable(path)}: lists no image")
    return listed


def place_samples(
    drafts: list[Sample], *, known: Iterable[str], members: Members, data_path: Path, by_stem: bool = False
) -> tuple[list[Sample], list[str]]:
    """The samples of a split in their places, and the names of those that are not there.

    Args:
        drafts: samples whose `name` is what the data set calls the image, and whose `path` is to be found.
        known: all such names.
        members: of the split; its labels go before those of the drafts.
        data_path: the data set.
        by_stem: whether images are called by their file names without the suffix.

    Raises:
        InputError: there is no such folder, or it holds an image twice.
        OSError: a folder cannot be listed.
    """
    places = index_images(data_path, by_stem=by_stem)
    samples, absent = [], members.missing(known)
    for draft in drafts:
        if not members.has(draft.name, patient=draft.patient or draft.name):
            continue
        path = places.get(draft.name)
        if path is None:
            absent.append(draft.name)
            continue
        label = members.label(draft.name, otherwise=draft.label)
        samples.append(replace(draft, path=path, name=inner_name(path, data_path), label=label))
    return samples, absent


def drawn_split(patient: str) -> str:
    """The split of a patient, the same on every machine and whatever else the data set holds."""
    digest = hashlib.sha256(patient.encode(errors="surrogateescape")).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    for split, reach in zip(DRAWN_SHARES, accumulate(DRAWN_SHARES.values()), strict=True):
        if share < reach:
            return split
    return "test"  # where the shares sum up to a rounding error less than 1


def make_split(
    samples: list[Sample], *, split: str, where: Path, classes: tuple[str, ...], normal_class: str, absent: list[str]
) -> Split | None:
    """A split of the images that are there; those that are not, as in a part of a download, are counted.

    Args:
        samples: in any order.
        split: its name.
        where: the data set or its table, for messages.
        classes: the names of all classes.
        normal_class: the one that is normal.
        absent: names of images that belong to the split and are not there.

    Returns:
        None for a val without images.

    Raises:
        InputError: train or test has no image.
    """
    place = printable(where)
    if absent:
        count = f"{len(absent)} of {len(absent) + len(samples)} images of {split}"
        logger.warning("%s: %s are not there and are left out, %s for example", place, count, printable(absent[0]))
    if not samples and split == "val":
        return None
    if not samples and absent:
        raise InputError(
            f"{place}: none of the {len(absent)} images of {split} is there, {shown(absent[:1])} for example"
        )
    if not samples:
        raise InputError(f"{place}: no image belongs to {split}, or the options leave none of those that do")
    ordered = sorted(samples, key=lambda sample: (sample.label, sample.name))
    return Split(samples=ordered, normal_class=normal_class, classes=classes)
