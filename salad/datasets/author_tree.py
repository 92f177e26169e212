"""Build the paper's folders of images from a download of NIH ChestX-ray14 and lists of its images."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from salad.datasets.tables import read_text
from salad.errors import InputError, StorageError, printable
from salad.images.listing import OTHERS, LeftOut, list_files
from salad.samples import ABNORMAL, NORMAL

logger = logging.getLogger(__name__)

CLASSES = {NORMAL: "0.normal", ABNORMAL: "1.abnormal"}
SPLIT_LISTS = {"train": ("train.txt",), "val": ("val.txt",), "test": ("test.txt", "test_attending_rad.txt")}
TANG_LIST = "test_attending_rad.txt"  # only the lists of Tang et al. (npj Digital Medicine 2020) have it
TANG_COUNTS = {"train": (4261, 4313), "val": (849, 857), "test": (677, 667)}  # normal, abnormal
NUM_SHOWN = 5

Lists = dict[str, dict[str, int]]  # split -> image name -> label


def build_tree(nih: Path, lists: Path, *, out: Path, allow_missing: bool = False) -> list[str]:
    """Build train/, val/ and test/, each with 0.normal/ and 1.abnormal/, from hard links or copies.

    Files are hard links where the file system allows it. The folder gets its name only when it is complete.

    Args:
        nih: folder of the images, at any depth.
        lists: folder of train.txt, val.txt and test.txt or test_attending_rad.txt, lines ``<image> <0|1>``.
        out: folder to create; it must not exist, or must be empty.
        allow_missing: True to continue when images are missing.

    Returns:
        Summary of the folders, as lines of text.

    Raises:
        InputError: a list is invalid, images are missing, or the counts differ from those of the paper.
        StorageError: a file could not be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {printable(out)}: already exists; choose another folder or remove it")
    wanted = read_lists(lists)
    images = find_images(nih)
    missing = [name for labels in wanted.values() for name in labels if name not in images]
    present = {
        split: {name: label for name, label in labels.items() if name in images} for split, labels in wanted.items()
    }
    num_wanted = sum(map(len, wanted.values()))
    if len(missing) == num_wanted:
        raise InputError(f"--nih {printable(nih)}: none of the {num_wanted:,} images is in it, at any depth")
    if missing and not allow_missing:
        raise InputError(
            f"--nih {printable(nih)}: {len(missing):,} of {num_wanted:,} images are missing, the first "
            f"{', '.join(missing[:NUM_SHOWN])}: complete the download, or continue without them with --allow_missing"
        )
    is_tang = (lists / TANG_LIST).is_file() and not (lists / "test.txt").is_file()
    if is_tang and not missing:
        check_counts(present, lists)
    num_copied = _write(present, images, out)
    num_links = sum(map(len, present.values())) - num_copied
    checked = "these are the counts of the paper" if is_tang and not missing else "the counts were not checked"
    return [
        *(f"{split:<5}  {_counted(labels)}" for split, labels in present.items()),
        f"{len(missing):,} images are missing; {checked}",
        f"{printable(out)}: {num_links:,} hard links (changing one changes the download, too), {num_copied:,} copies",
    ]


def _counted(labels: dict[str, int]) -> str:
    return f"{_count(labels, NORMAL):,} normal, {_count(labels, ABNORMAL):,} abnormal"


def read_lists(folder: Path) -> Lists:
    """Read the images of train, val and test with their labels.

    Args:
        folder: folder of the lists.

    Returns:
        Label by image name, for each split.

    Raises:
        InputError: a list is missing or empty, has a malformed line, or names an image twice.
    """
    lists: Lists = {}
    seen: dict[str, str] = {}
    for split, names in SPLIT_LISTS.items():
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            raise InputError(f"--lists {printable(folder)}: holds no {' or '.join(names)}")
        lists[split] = {}
        for line, (image, label) in _read_list(path):
            if image in seen:
                raise InputError(f"{line}: {image} is in {seen[image]}, too; an image has one split and one label")
            seen[image] = line
            lists[split][image] = label
        if not lists[split]:
            raise InputError(f"{printable(path)}: names no image")
    return lists


def _read_list(path: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield the position of each line, for messages, with its image and label."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words, position = line.split(), f"{printable(path)}, line {number}"
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("0", "1"):
            raise InputError(f"{position}: '{printable(line[:80])}' must be an image and 0 (normal) or 1 (abnormal)")
        if (
            Path(words[0]).name != words[0] or "\\" in words[0] or words[0] == ".."
        ):  # else a file could be written outside --out
            raise InputError(f"{position}: '{printable(words[0][:80])}' must be a file name without a folder")
        yield position, (printable(words[0]), int(words[1]))


def find_images(nih: Path) -> dict[str, Path]:
    """Index all images of a download by name, at any depth; the first of two of the same name counts.

    Args:
        nih: folder of the download.

    Returns:
        Path by file name.

    Raises:
        InputError: the folder does not exist or cannot be listed.
    """
    if not nih.is_dir():
        raise InputError(f"--nih {printable(nih)}: no such folder")
    images: dict[str, Path] = {}
    left_out = LeftOut()
    try:
        for file in list_files(nih, left_out=left_out):
            images.setdefault(os.path.basename(file), Path(file))  # noqa: PTH119
    except OSError as error:
        raise InputError(f"--nih {printable(error.filename or nih)}: cannot be listed ({error.strerror})") from None
    left_out.counts.pop(OTHERS, None)
    left_out.say(nih, logger=logger)
    return images


def check_counts(present: Lists, lists: Path) -> None:
    """Compare the counts of the lists of Tang et al. with those in the paper.

    Args:
        present: labels of the images that exist, by split and name.
        lists: folder of the lists, for the message.

    Raises:
        InputError: a count differs.
    """
    for split, expected in TANG_COUNTS.items():
        counts = _count(present[split], NORMAL), _count(present[split], ABNORMAL)
        if counts != expected:
            raise InputError(
                f"--lists {printable(lists)}: {split} has {counts[0]:,} normal and {counts[1]:,} abnormal images, but "
                f"{expected[0]:,} and {expected[1]:,} in the split of Tang et al.: fetch the lists again"
            )


def _count(labels: dict[str, int], label: int) -> int:
    return [*labels.values()].count(label)


def _write(present: Lists, images: dict[str, Path], out: Path) -> int:
    """Write the folders under a temporary name, then rename them atomically; return the number of copies."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.partial")
    files = [(split, name, label) for split, labels in present.items() for name, label in labels.items()]
    num_copied = 0
    try:
        for split in present:
            for folder in CLASSES.values():
                (temporary / split / folder).mkdir(parents=True)
        for split, name, label in tqdm(files, desc="linking", unit=" images", leave=False, disable=None):
            num_copied += _link(images[name], temporary / split / CLASSES[label] / name)
        temporary.replace(out)
    except OSError as error:
        raise StorageError(f"{printable(out)}: could not be written ({error.strerror})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return num_copied


def _link(source: Path, target: Path) -> bool:
    """Link a file, or copy it where no link is possible; return True for a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copyfile(source, target)
        return True
    return False
