"""Find images below a folder, and assign them to splits by lists or by patient."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from salad.datasets.cells import age_in_years
from salad.datasets.layout import check_there
from salad.datasets.tables import read_text, shown
from salad.errors import InputError, printable
from salad.images.listing import OTHERS, LeftOut, list_files, say_once
from salad.images.names import last_part, name_key, shortened, stem_of
from salad.samples import Sample, Split

logger = logging.getLogger(__name__)

# The first list that exists counts: our own names, then those of NIH and of the split of Tang et al.
LISTS = {
    "train": ("train.txt", "train_val_list.txt"),
    "val": ("val.txt", "valid.txt"),  # NIH has none: its train_val_list.txt holds both
    "test": ("test.txt", "test_list.txt", "test_attending_rad.txt", "test_rad_consensus_voted3.txt"),
}
MAX_EXAMPLE = 200  # characters of a missing image in a message
DRAWN_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of the patients, for data sets without splits


def index_images(data_path: Path, *, by_stem: bool = False) -> dict[str, Path]:
    """Index the images below a folder by file name.

    Args:
        data_path: folder to search, with its sub-folders.
        by_stem: True to use the file name without the suffix as the key.

    Returns:
        Path by key.

    Raises:
        InputError: the folder does not exist, or two images have the same key.
        OSError: a folder cannot be listed.
    """
    if not data_path.is_dir():
        raise InputError(f"{printable(data_path)}: no such folder")
    paths: dict[str, Path] = {}
    left_out = LeftOut()
    for file in list_files(data_path, left_out=left_out):
        name = os.path.basename(file)  # noqa: PTH119  (Path is slow for a million names)
        key = name_key(stem_of(name) if by_stem else name)
        if key in paths:
            twice = f"{inner_name(paths[key], data_path)} and {inner_name(Path(file), data_path)}"
            raise InputError(
                f"{printable(data_path)}: holds {twice}, which count as the same image: move one of them away"
            )
        paths[key] = Path(file)
    left_out.counts.pop(OTHERS, None)  # tables and lists, among others
    left_out.say(data_path, logger=logger)
    return paths


def inner_name(path: Path, data_path: Path) -> str:
    """Return the name of a file in outputs: its path inside DATA_PATH."""
    inner = path.relative_to(data_path) if path.is_relative_to(data_path) else path
    return printable(inner.as_posix())


class AgeFilter:
    """Filter of patients by --min_age, which counts the images whose age is unknown.

    Args:
        min_age: smallest age in years; None to keep all.
    """

    def __init__(self, min_age: int | None) -> None:
        self.min_age = min_age
        self.unknown: Counter[str] = Counter()

    def keeps(self, text: str) -> bool:
        """Return True if an age in text form is at least --min_age; an unknown age is not, and is counted."""
        age = age_in_years(text)
        if self.min_age is not None and age is None:
            self.unknown[text.strip() or "none"] += 1
        return self.min_age is None or (age is not None and age >= self.min_age)

    def say(self, where: Path, split: str) -> None:
        """Log how many images --min_age leaves out because their age is unknown."""
        if number := sum(self.unknown.values()):
            logger.warning(
                "%s: %s: --min_age leaves out %d images whose age is unknown (%s)",
                printable(where),
                split,
                number,
                shown(self.unknown),
            )


@dataclass(frozen=True)
class Members:
    """Membership of images in a split, by a list or by patient.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        listed: label by the `last_part` of an image's name, None for a label that the list does not give; None instead
            of a dict assigns each patient to a split by `drawn_split`.
    """

    split: str
    listed: dict[str, int | None] | None

    def has(self, name: str, *, patient: str) -> bool:
        """Return True if an image of this patient belongs to the split."""
        return drawn_split(patient) == self.split if self.listed is None else last_part(name) in self.listed

    def label(self, name: str, *, otherwise: int) -> int:
        """Return the label of an image in the list, else the label `otherwise` of the data set."""
        label = None if self.listed is None else self.listed[last_part(name)]
        return otherwise if label is None else label

    def missing(self, known: Iterable[str]) -> list[str]:
        """Return the listed images that are not among the `known` images of the data set."""
        return [] if self.listed is None else sorted(self.listed.keys() - set(map(last_part, known)))


def find_members(data_path: Path, split: str, *, split_dir: Path | None, by_stem: bool = False) -> Members | None:
    """Find the members of a split: by the lists in --split_dir, else by those in DATA_PATH, else by patient.

    Args:
        data_path: folder of the data set.
        split: ``train``, ``val`` or ``test``.
        split_dir: folder of lists, or None.
        by_stem: True if the data set names images by file name without the suffix.

    Returns:
        The members; None if there are lists, but none for val.

    Raises:
        InputError: train or test has no list, or a list cannot be read.
    """
    folder = split_dir
    if folder is not None:
        check_there(folder, option="--split_dir")
    if folder is None and any((data_path / name).is_file() for part in ("train", "test") for name in LISTS[part]):
        folder = data_path
    if folder is None:
        if split != "val":
            shares = ", ".join(f"{share:.0%} {name}" for name, share in DRAWN_SHARES.items())
            say_once(
                f"{printable(data_path)}: has no lists of its splits, so each patient is assigned to a split by a "
                f"digest of the id ({shares}); --split_dir takes lists",
                logger=logger,
            )
        return Members(split, None)
    lists = [folder / name for name in LISTS[split] if (folder / name).is_file()]
    if not lists and split == "val":
        return None
    if not lists:
        raise InputError(
            f"{printable(folder)}: holds no list of {split}; it must be called {' or '.join(LISTS[split])}"
        )
    others = f", not by {shown(path.name for path in lists[1:])}" if lists[1:] else ""
    logger.info("%s: split by %s%s", split, printable(lists[0]), others)
    listed = read_list(lists[0])
    return Members(split, {stem_of(name): label for name, label in listed.items()} if by_stem else listed)


def read_list(path: Path) -> dict[str, int | None]:
    """Read a list of images, one per line, each with a label after it (0 normal, 1 abnormal) or without.

    Args:
        path: the list.

    Returns:
        Label by image name; None for an image without a label.

    Raises:
        InputError: the list cannot be read, is empty, or gives an image two labels.
    """
    listed: dict[str, int | None] = {}
    for line in read_text(path).splitlines():
        match = re.fullmatch(r"(\S.*?)(?:[\s,;]+([01]))?", line.strip())
        if match is None:
            continue
        name, label = last_part(match[1]), None if match[2] is None else int(match[2])
        if listed.setdefault(name, label) != label:
            raise InputError(f"{printable(path)}: gives {shortened(name)} two labels")
    if not listed:
        raise InputError(f"{printable(path)}: lists no image")
    return listed


def place_samples(
    drafts: list[Sample], *, known: Iterable[str], members: Members, data_path: Path, by_stem: bool = False
) -> tuple[list[Sample], list[str]]:
    """Find the files of the samples of a split.

    Args:
        drafts: samples without a `path`, whose `name` is the image's name in the data set.
        known: names of all images of the data set.
        members: members of the split; their labels take precedence over those of the drafts.
        data_path: folder of the data set.
        by_stem: True if the data set names images by file name without the suffix.

    Returns:
        The samples with `path` and the name for outputs, and the names of images without a file.

    Raises:
        InputError: the folder does not exist, or holds an image twice.
        OSError: a folder cannot be listed.
    """
    paths = index_images(data_path, by_stem=by_stem)
    samples, absent = [], members.missing(known)
    for draft in drafts:
        if not members.has(draft.name, patient=draft.patient or draft.name):
            continue
        path = paths.get(name_key(draft.name))
        if path is None:
            absent.append(draft.name)
            continue
        label = members.label(draft.name, otherwise=draft.label)
        samples.append(replace(draft, path=path, name=inner_name(path, data_path), label=label))
    return samples, with_hint(absent, paths, data_path)


def with_hint(absent: list[str], paths: dict[str, Path], data_path: Path) -> list[str]:
    """Add to the first missing image that an image of the folder differs in capitals, if one does."""
    if absent:
        by_key = {key.casefold(): path for key, path in paths.items()}
        for number, name in enumerate(absent):
            if found := by_key.get(name_key(name).casefold()):
                said = f"{name}; there is {inner_name(found, data_path)}, which differs in capitals"
                return [said, *absent[:number], *absent[number + 1 :]]
    return absent


def drawn_split(patient: str) -> str:
    """Return the split of a patient, by a hash of the id: the same on every machine and for every download."""
    digest = hashlib.sha256(patient.encode(errors="surrogateescape")).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    for split, reach in zip(DRAWN_SHARES, accumulate(DRAWN_SHARES.values()), strict=True):
        if share < reach:
            return split
    return "test"  # the shares may sum to slightly less than 1


def make_split(
    samples: list[Sample], *, split: str, where: Path, classes: tuple[str, ...], normal_class: str, absent: list[str]
) -> Split | None:
    """Make a split of the images that exist; warn about missing ones, as in an incomplete download.

    Args:
        samples: samples whose files exist, in any order.
        split: ``train``, ``val`` or ``test``.
        where: path of the data set or its table, for messages.
        classes: names of all classes.
        normal_class: name of the normal class.
        absent: names of images of the split that are missing.

    Returns:
        The split, sorted by label and name; None for a val without images.

    Raises:
        InputError: train or test has no image.
    """
    source = printable(where)
    if absent:
        count = f"{len(absent)} of {len(absent) + len(samples)} images of {split}"
        example = shortened(absent[0], MAX_EXAMPLE)
        logger.warning("%s: %s are missing and are left out, %s for example", source, count, example)
    if not samples and split == "val":
        return None
    if not samples and absent:
        raise InputError(
            f"{source}: none of the {len(absent)} images of {split} was found, {shortened(absent[0], MAX_EXAMPLE)} "
            "for example"
        )
    if not samples:
        raise InputError(f"{source}: no image belongs to {split}, or the options leave none")
    ordered = sorted(samples, key=lambda sample: (sample.label, sample.name))
    return Split(samples=ordered, normal_class=normal_class, classes=classes)
