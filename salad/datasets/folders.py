"""Read `CXR_author`: folders train/, val/ (optional) and test/, with one sub-folder per class."""

import logging
import os
import shlex
from pathlib import Path

from salad.datasets.annotate import annotate
from salad.datasets.layout import find_root, find_split, holds_splits, say_missing, sub_folders
from salad.datasets.tables import shown
from salad.datasets.words import Sense, class_key, sense_of
from salad.errors import InputError, printable
from salad.images.listing import LeftOut, is_image, list_files, num_files, reason_to_leave_out
from salad.images.names import name_key, shortened, stem_of
from salad.images.read import IMAGE_SUFFIXES
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

logger = logging.getLogger(__name__)

MASK_FOLDER = "masks"
OPPOSITES = ("a", "ab", "an", "dis", "im", "in", "ir", "mal", "no", "non", "non-", "non_", "not", "un", "un-")
MIN_OPPOSITE = 4  # letters of a name: shorter ones are like others by chance


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split.

    Training never reads test/: the order of the classes comes from train/ and val/ alone, and from test/ only if
    both are absent.

    Args:
        data_path: folder that holds train/ and test/.
        split: ``train``, ``val`` or ``test``.
        selection: its `normal_class` is the name or the index (in sorted order) of the normal class; None for the
            first class, unless a class name contradicts that.

    Returns:
        The split; None if val/ does not exist or holds no image.

    Raises:
        InputError: a folder is missing or empty, or the normal class is ambiguous.
        OSError: a folder cannot be listed.
    """
    data_path = find_root(data_path, holds_splits)
    folder = find_split(data_path, split)
    if folder is None:
        if split == "val":
            return None
        raise InputError(say_missing(data_path, split))
    if not _class_names(folder):
        raise InputError(f"{folder}: holds no class folder; put the images into {folder.name}/0.normal/, for example")
    known = {name for part in ("train", "val") for name in _class_names(find_split(data_path, part))}
    classes = sorted(known.union(_class_names(folder)))
    normal = choose_normal_class(classes, selection.normal_class, where=data_path, ranked=sorted(known))
    own = sorted(_class_names(folder))
    samples = _list_samples(folder, own, normal=normal)
    if not samples and split == "val":
        return None
    if not samples:
        raise InputError(f"{folder}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return Split(
        samples=annotate(samples, data_path),
        normal_class=normal,
        classes=tuple(own),
        doubts=tuple(_find_doubts(folder, own, normal, is_asked=selection.normal_class is not None)),
    )


def _list_samples(folder: Path, classes: list[str], *, normal: str) -> list[Sample]:
    """List the images in the class folders of a split; say in one line what else is there."""
    left_out = LeftOut()
    for name in _left_out_folders(folder):
        left_out.add(reason_to_leave_out(name) or "", f"{name}/", number=num_files(folder / name))
    masks = Masks(folder)
    samples = []
    for name in classes:
        label = NORMAL if class_key(name) == class_key(normal) else ABNORMAL
        length = len(str(folder / name))  # cut off as text, because Path is slow for a million names
        for path in list_files(folder / name, left_out=left_out):
            file, inner = Path(path), f"{folder.name}/{name}{path[length:].replace(os.sep, '/')}"
            samples.append(Sample(file, printable(inner), label, mask=masks.find(file)))
    left_out.say(folder, logger=logger)
    masks.say()
    return samples


class Masks:
    """Masks of images: ``masks/test/1.abnormal/a.png`` for ``test/1.abnormal/a.jpeg``, with any image suffix.

    Args:
        split: folder of a split, with or without masks/ beside it.
    """

    def __init__(self, split: Path) -> None:
        self.split, self.folder = split, split.parent / MASK_FOLDER / split.name
        self.masks: dict[str, Path] = {}
        self.in_other_capitals: dict[str, str] = {}
        self.unused: list[str] = []
        if self.folder.is_dir():
            left_out = LeftOut()
            for file in sorted(list_files(self.folder, left_out=left_out), key=lambda file: not file.endswith(".png")):
                self.masks.setdefault(self._key(Path(file), self.folder), Path(file))
            left_out.say(self.folder, logger=logger)
            self.in_other_capitals = {key.casefold(): key for key in self.masks}

    def find(self, file: Path) -> Path | None:
        """Find the mask of an image; None if there is none."""
        if not self.masks:
            return None
        key = self._key(file, self.split)
        if key not in self.masks and key.casefold() in self.in_other_capitals:
            self.unused.append(self.in_other_capitals[key.casefold()])
        return self.masks.get(key)

    def say(self) -> None:
        """Log the masks that are not used because their names differ in capitals from those of images."""
        if self.unused:
            where, first = printable(self.folder), shortened(self.unused[0])
            logger.warning("%s: %d masks differ from images in capitals, the first: %s", where, len(self.unused), first)

    def _key(self, file: Path, folder: Path) -> str:
        inner = file.relative_to(folder)
        return name_key((inner.parent / stem_of(inner.name)).as_posix())


def _find_doubts(folder: Path, classes: list[str], normal: str, *, is_asked: bool) -> list[str]:
    """List doubts about the folders of a usable split, one line each."""
    doubts = []
    files = sorted(entry.name for entry in folder.iterdir() if not (entry.is_dir() or entry.name.startswith(".")))
    if loose := [name for name in files if is_image(str(folder / name), LeftOut())]:
        doubts.append(f"{folder.name}/: {len(loose)} images in no class folder are not used, the first is {loose[0]}")
    for name in classes:
        is_normal = class_key(name) == class_key(normal)
        if not is_normal and sense_of(name) is Sense.NORMAL:
            doubts.append(f"{folder.name}/{name}/ counts as abnormal: the normal class is {normal}")
        against = Sense.ABNORMAL if is_normal else Sense.NORMAL
        if inner := [one.name for one in sub_folders(folder / name) if sense_of(one.name) is against]:
            counted = "normal" if is_normal else "abnormal"
            doubts.append(f"{folder.name}/{name}/ holds {shown(inner)}, whose images all count as {counted}")
    if not is_asked and (doubt := doubt_of_first(normal)):
        doubts.append(f"{folder.name}/: {doubt}")
    if folder.name == "val" and folder.with_name("valid").is_dir():
        doubts.append("valid/ is not used, because val/ exists")
    return [printable(doubt) for doubt in doubts]


def doubt_of_first(normal: str) -> str | None:
    """Word the doubt about a normal class that nobody asked for and whose name does not say normal; None without."""
    if sense_of(normal) is Sense.NORMAL:
        return None
    return f"{normal} counts as normal only because it is first; choose with --normal_class"


def choose_normal_class(classes: list[str], asked: str | None, *, where: Path, ranked: list[str] | None = None) -> str:
    """Choose the normal class: the requested one, else the first, unless the class names leave a doubt.

    A negated word, as in `Non-Normal` or `unhealthy`, never counts as normal; where several classes are called normal,
    or one is called normal and more (`COVID negative`), the user has to choose.

    Args:
        classes: names of all classes.
        asked: name of the requested class, or its index in `ranked`; None for the first class of `ranked`.
        where: path of the data set, for messages.
        ranked: sorted names of the classes to choose the first from; by default `classes`.

    Returns:
        Name of the normal class.

    Raises:
        InputError: the requested class does not exist, or the class names do not say that the first class is normal.
    """
    ranked = ranked or classes
    listing = ", ".join(f"{number} = {name}" for number, name in enumerate(ranked))
    if asked is not None:
        if asked in classes:
            return asked
        if asked.isdecimal() and int(asked) < len(ranked):
            return ranked[int(asked)]
        if same := [name for name in classes if class_key(name) == class_key(asked)]:
            return same[0]
        if all(sense_of(name) is Sense.ABNORMAL for name in classes):
            return asked  # only abnormal images, scored by a model that knows its normal class
        raise InputError(f"{where}: no class is called '{asked}' (found {listing}): choose --normal_class among these")
    first = ranked[0]
    named_normal = {class_key(name): name for name in reversed(classes) if sense_of(name) is Sense.NORMAL}
    is_unknown = sense_of(first) is None and Sense.UNSURE not in map(sense_of, classes) and not _has_opposites(classes)
    if named_normal.keys() == {class_key(first)} or (not named_normal and is_unknown):
        return first
    advice = shlex.quote([*named_normal.values()][0]) if len(named_normal) == 1 else "NAME"
    raise InputError(
        f"{where}: in sorted order the first class counts as normal, but the names do not say so ({listing}): "
        f"choose the normal class with --normal_class {advice}"
    )


def _has_opposites(classes: list[str]) -> bool:
    """Detect names such as `typical` and `atypical`, of which the first in order may well be the abnormal one."""
    keys = {class_key(name) for name in classes}
    return any(prefix + key in keys for key in keys if len(key) >= MIN_OPPOSITE for prefix in OPPOSITES)


def _class_names(folder: Path | None) -> list[str]:
    if folder is None:
        return []
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and reason_to_leave_out(entry.name) is None]


def _left_out_folders(folder: Path) -> list[str]:
    """Return the names of the sub-folders of a split that are no class, such as @eaDir and masks."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and reason_to_leave_out(entry.name))
