"""Find the folder of a data set at or below DATA_PATH, and say what is there where it is not found."""

from __future__ import annotations

import difflib
import logging
import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from salad.datasets.tables import shown
from salad.datasets.words import Sense, class_key, sense_of
from salad.errors import InputError, printable
from salad.images.listing import LeftOut, is_image, reason_to_leave_out, say_once

logger = logging.getLogger(__name__)

MAX_DEPTH = 4  # levels below DATA_PATH to search
MAX_FOLDERS = 2000  # to search in a level: more are folders of patients
MAX_COUNTED = 1000  # images to count for a message
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def find_root(data_path: Path, holds: Callable[[Path], object]) -> Path:
    """Find the folder of a data set: DATA_PATH, or the only one below it at the first level where there is one.

    Archives often unpack to a folder in a folder, such as `chest_xray/chest_xray/train`.

    Args:
        data_path: folder to search.
        holds: function that tells if a folder holds the files of the data set.

    Returns:
        The folder; DATA_PATH if there is none.

    Raises:
        InputError: several folders of one level hold the data set.
        OSError: DATA_PATH cannot be listed.
    """
    level = [data_path] if data_path.is_dir() else []
    for _ in range(MAX_DEPTH + 1):
        found = [folder for folder in level if holds(folder)]
        if len(found) > 1:
            names = shown(folder.relative_to(data_path) for folder in found)
            raise InputError(f"{printable(data_path)}: holds the data set several times ({names}): name one of these")
        if found:
            if found[0] != data_path:
                say_once(f"{printable(data_path)}: the data set is in {printable(found[0])}", logger=logger)
            return found[0]
        level = [inner for folder in level for inner in sub_folders(folder)]
        if len(level) > MAX_FOLDERS:
            break
    return data_path


def sub_folders(folder: Path) -> list[Path]:
    """List the sub-folders of a folder that may hold images, sorted; none of a folder that cannot be listed."""
    try:
        with os.scandir(folder) as entries:  # Path.is_dir is slow for a million files
            inner = [entry.name for entry in entries if entry.is_dir() and not reason_to_leave_out(entry.name)]
        return [folder / name for name in sorted(inner)]
    except OSError:
        return []


def find_split(data_path: Path, split: str) -> Path | None:
    """Find the folder of a split; its exact name comes first, else capitals do not count.

    Args:
        data_path: folder of the data set.
        split: ``train``, ``val`` or ``test``.

    Returns:
        The folder; None if there is none.

    Raises:
        InputError: several folders could be meant.
        OSError: DATA_PATH cannot be listed.
    """
    names = SPLIT_NAMES[split]
    if exact := next((data_path / name for name in names if (data_path / name).is_dir()), None):
        return exact
    if not data_path.is_dir():
        return None
    similar = [entry for entry in data_path.iterdir() if class_key(entry.name) in names and entry.is_dir()]
    if len(similar) > 1:
        folders = shown(sorted(entry.name for entry in similar))
        raise InputError(f"{printable(data_path)}: which of {folders} is {split}? Call it {split}")
    if similar:
        say_once(f"{printable(data_path)}: {printable(similar[0].name)}/ is read as {split}", logger=logger)
    return similar[0] if similar else None


def holds_splits(folder: Path) -> bool:
    """Tell if a folder holds train/ or test/, in any capitals."""
    names = {*SPLIT_NAMES["train"], *SPLIT_NAMES["test"]}
    return any(class_key(inner.name) in names for inner in sub_folders(folder))


def check_there(data_path: Path, *, option: str = "") -> None:
    """Raise `InputError` if a path does not exist; the message names a similar path that does.

    Args:
        data_path: path to check.
        option: option that gave the path, for the message; empty for DATA_PATH.
    """
    if data_path.exists():
        return
    where = f"{option} {printable(data_path)}".strip()
    if data_path.is_symlink():
        raise InputError(f"{where}: a link to a folder or file that is not there")
    parent = next(folder for folder in data_path.absolute().parents if folder.is_dir())
    missing = data_path.absolute().relative_to(parent).parts[0]
    close = closest(missing, (entry.name for entry in parent.iterdir()))
    meant = f": did you mean {_quoted(parent / close)}?" if close else f", but {printable(parent)} is there"
    raise InputError(f"{where}: no such folder or file{meant}")


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that is most like another one, capitals aside; None if none is like it."""
    by_key = {class_key(other): other for other in sorted(names, reverse=True)}
    return next((by_key[key] for key in difflib.get_close_matches(class_key(name), by_key, n=1)), None)


def say_missing(data_path: Path, split: str) -> str:
    """Word what DATA_PATH holds instead of the folder of a split, and what to do.

    Args:
        data_path: a folder without the split.
        split: ``train`` or ``test``.

    Returns:
        One line of text.
    """
    start = f"{printable(data_path / split)}: no such folder; {printable(data_path)}"
    if not data_path.is_dir():
        return f"{start} is a file: give a folder with train/ and test/, or read a table with the data set Table"
    if _names_a_split(data_path.name):
        return f"{start} is itself the folder of a split: give the folder above it"
    inner = [folder.name for folder in sub_folders(data_path)]
    num_images, more = _num_images(data_path)
    splits = [name for name in inner if _names_a_split(name)]
    if splits:
        return f"{start} holds {shown(splits)}: add {split}/ with one sub-folder per class"
    if inner and (any(map(sense_of, inner)) or all(_num_images(data_path / name)[0] for name in inner)):
        return (
            f"{start} holds the classes {shown(inner)} without train/ and test/: {_say_folders(data_path, inner)} lets "
            "a digest split them; or move them into train/, and a part of their images into test/ "
            f"(test/{printable(inner[0])}/); instead of val/, --val_share 0.1 holds images of train/ out"
        )
    if num_images:
        return (
            f"{start} holds {num_images}{more} images directly: if all are normal, --normal {_quoted(data_path)} "
            "trains on them; else put them into train/CLASS/ and test/CLASS/, such as train/0.normal/; to score them "
            "with a trained model, use python -m salad predict"
        )
    if not inner:
        return f"{start} is empty: it must hold train/ and test/, one sub-folder per class"
    return f"{start} holds {shown(inner)}, but must hold train/ and test/, one sub-folder per class"


def _say_folders(data_path: Path, inner: list[str]) -> str:
    """Word the options that take a class folder as normal and the other one as abnormal, as far as names tell."""
    normal = [name for name in inner if sense_of(name) is Sense.NORMAL]
    abnormal = [name for name in inner if name not in normal]
    folders = [_quoted(data_path / names[0]) if len(names) == 1 else "DIR" for names in (normal, abnormal)]
    return f"--normal {folders[0]} --abnormal {folders[1]}"


def _quoted(path: Path) -> str:
    return shlex.quote(printable(path))


def _names_a_split(name: str) -> bool:
    """Tell if a name is that of a split, in any capitals."""
    return any(class_key(name) in names for names in SPLIT_NAMES.values())


def _num_images(folder: Path) -> tuple[int, str]:
    """Count the images directly in a folder, up to `MAX_COUNTED`, and return a plus sign if there are more files."""
    number = 0
    try:
        for position, entry in enumerate(folder.iterdir()):
            if position == MAX_COUNTED:
                return number, "+"
            number += not entry.is_dir() and is_image(str(entry), LeftOut())
    except OSError:
        return 0, ""
    return number, ""
