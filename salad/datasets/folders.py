"""`CXR_author`: folders train/, val/ (optional) and test/, with one sub-folder a class."""

import logging
import os
import re
from pathlib import Path

from salad.datasets.annotate import annotate
from salad.errors import InputError, printable
from salad.images.read import IMAGE_SUFFIXES
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

logger = logging.getLogger(__name__)

MASK_FOLDER = "masks"
FOLDER_NAMES = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
NORMAL_WORDS = {"normal", "normals", "healthy", "negative", "good", "nofinding", "nofindings"}
ABNORMAL_WORDS = {
    "abnormal",
    "abnormals",
    "anomaly",
    "anomalies",
    "anomalous",
    "positive",
    "disease",
    "diseased",
    "sick",
}


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of one split.

    Training never looks into test/: which class is first is decided by train/ and val/ alone, and by test/
    only where these are absent.

    Args:
        data_path: the folder that holds train/ and test/.
        split: ``train``, ``val`` or ``test``.
        selection: its `normal_class` is the name or the index (in sorted order) of the class that counts as
            normal; None for the first, unless a name contradicts that.

    Returns:
        The split; None where there is no val/, or no image in it.

    Raises:
        InputError: a folder is missing or empty, or which class is normal is in doubt.
        OSError: a folder cannot be listed.
    """
    folder = _find_folder(data_path, split)
    if folder is None:
        if split == "val":
            return None
        raise InputError(
            f"{data_path / split}: no such folder; DATA_PATH must hold train/ and test/, one sub-folder a class"
        )
    if not _class_names(folder):
        raise InputError(f"{folder}: holds no class folder; put the images into {folder.name}/0.normal/, for example")
    known = {name for part in ("train", "val") for name in _class_names(_find_folder(data_path, part))}
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
    """The images in the class folders of a split; other files are counted and left out."""
    data_path = folder.parent
    files = [(name, file) for name in classes for file in files_below(folder / name)]
    masks = data_path / MASK_FOLDER if (data_path / MASK_FOLDER).is_dir() else None
    samples = [
        Sample(
            Path(file),
            printable(Path(file).relative_to(data_path).as_posix()),
            NORMAL if name == normal else ABNORMAL,
            mask=find_mask(Path(file), masks) if masks else None,
        )
        for name, file in files
        if _suffix(file) in IMAGE_SUFFIXES
    ]
    if len(files) > len(samples):
        others = sorted({_suffix(file) or "none" for _, file in files} - IMAGE_SUFFIXES)
        logger.warning(
            "%s: %d files are no images that can be read (%s)", folder, len(files) - len(samples), ", ".join(others)
        )
    return samples


def find_mask(file: Path, masks: Path) -> Path | None:
    """What was marked in an image: ``masks/test/1.abnormal/a.png`` for ``test/1.abnormal/a.jpeg``, if it is there."""
    mask = (masks / file.relative_to(masks.parent)).with_suffix(".png")
    return mask if mask.is_file() else None


def _find_doubts(folder: Path, classes: list[str], normal: str, *, is_asked: bool) -> list[str]:
    """What looks wrong with a split that can be used, a line each."""
    doubts = []
    files = sorted(entry.name for entry in folder.iterdir() if not (entry.is_dir() or entry.name.startswith(".")))
    if loose := [name for name in files if _suffix(name) in IMAGE_SUFFIXES]:
        doubts.append(f"{folder.name}/: {len(loose)} images in no class folder are not used, the first is {loose[0]}")
    for name in classes:
        if name != normal and sounds(name, NORMAL_WORDS) and not sounds(name, ABNORMAL_WORDS):
            doubts.append(f"{folder.name}/{name}/ counts as abnormal: the normal class is {normal}")
    if not is_asked and not sounds(normal, NORMAL_WORDS):
        doubts.append(f"{folder.name}/: {normal} counts as normal only because it is first; --normal_class chooses")
    if folder.name == "val" and folder.with_name("valid").is_dir():
        doubts.append("valid/ is not used: there is val/")
    return [printable(doubt) for doubt in doubts]


def choose_normal_class(classes: list[str], asked: str | None, *, where: Path, ranked: list[str] | None = None) -> str:
    """The class that counts as normal: the one asked for, else the first, unless a name speaks against it.

    Args:
        classes: all names.
        asked: a name, or an index into `ranked`, or None.
        where: for messages.
        ranked: the names among which the first is normal, sorted; by default `classes`.

    Raises:
        InputError: the class asked for does not exist, or the first class is not the one named normal.
    """
    ranked = ranked or classes
    listing = ", ".join(f"{number} = {name}" for number, name in enumerate(ranked))
    if asked is not None:
        if asked in classes:
            return asked
        if asked.isdecimal() and int(asked) < len(ranked):
            return ranked[int(asked)]
        if all(sounds(name, ABNORMAL_WORDS) for name in classes):
            return asked  # a folder of abnormal images alone, scored by a model that knows its normal class
        raise InputError(f"{where}: no class is called '{asked}' (found {listing}): choose --normal_class among these")
    first = ranked[0]
    named_normal = [name for name in classes if sounds(name, NORMAL_WORDS)]
    if (named_normal and first not in named_normal) or sounds(first, ABNORMAL_WORDS):
        raise InputError(
            f"{where}: in sorted order the first class counts as normal, but the names say otherwise ({listing}): "
            f"say which one is normal with --normal_class {named_normal[0] if named_normal else 'NAME'}"
        )
    return first


def sounds(name: str, words: set[str]) -> bool:
    """Whether one of the words stands in a folder name: `0.normal`, `NORMAL`, `No_findings`."""
    parts = re.findall(r"[a-z]+", name.lower())
    return bool(words.intersection([*parts, *map("".join, zip(parts, parts[1:], strict=False))]))


def _find_folder(data_path: Path, split: str) -> Path | None:
    return next((data_path / name for name in FOLDER_NAMES[split] if (data_path / name).is_dir()), None)


def _class_names(folder: Path | None) -> list[str]:
    if folder is None:
        return []
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def files_below(folder: Path, above: frozenset[Path] = frozenset()) -> list[str]:
    """The files of a folder and of those inside it, sorted; hidden ones and circles of links are left out."""
    real = folder.resolve()
    if real in above:
        return []
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    is_folder = {entry.name: _is_folder(entry) for entry in entries}
    folders = [Path(entry.path) for entry in entries if is_folder[entry.name]]
    files = [entry.path for entry in entries if not is_folder[entry.name]]
    return files + [file for inner in folders for file in files_below(inner, above | {real})]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself: no folder, and refused as an image
        return False


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (a Path for each of a million names is slow)
