"""List the images below a folder, in the same way for training, predict, calibration, masks and every reader."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from salad.errors import printable, refuse_shortage
from salad.images.dicom import is_dicom
from salad.images.names import shortened, stem_of, suffix_of
from salad.images.read import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

HEAD_BYTES = 512  # of a file without an image suffix: enough for the kind of DICOM object
PICTURE_START = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM.{4}\0{4}|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|P[1-6]\s+[#\d]|Pf\s", re.DOTALL
)
DICOM_DIRECTORY = re.compile(rb"1\.2\.840\.10008\.1\.3\.10(?![\d.])")  # SOP class of a DICOMDIR, in the file's head
NAMES_SHOWN = 3

# Folders that systems and programs make: thumbnails and waste bins of NAS, macOS and Windows.
SYSTEM_FOLDER = re.compile(
    r"[@#$~][a-z_].*|__[a-z].*|system volume information|lost\+found|recycle[rd]|found\.\d+|network trash folder"
    r"|temporary items|onedrivetemp|cvs",
    re.IGNORECASE,
)
NOT_COUNTED = re.compile(
    r"\.ds_store|\.localized|\.git(?:ignore|keep)|\.directory|(?:eh)?thumbs\.db|desktop\.ini", re.I
)
OWN_FOLDER = ".salad_cache"
HALF_WRITTEN = re.compile(
    r".*(?:~|#|\.(?:bak|old|orig|part|partial|crdownload|download|filepart|te?mp|swp|lock))", re.I
)
MASK_WORDS = frozenset(
    ("mask", "masks", "segmentation", "segmentations", "seg", "segs", "segmask", "segmasks", "labels", "annotations")
    + ("contour", "contours", "gt", "groundtruth", "overlay", "overlays", "heatmap", "heatmaps", "saliency", "gradcam")
    + ("attention", "thumbnail", "thumbnails", "thumb", "thumbs", "preview", "previews")
    + ("lungmask", "lungmasks", "leftmask", "rightmask")
)
MASK_ENDS = tuple(MASK_WORDS)
# `a_mask.png`, `a_lung_mask.png`: the film's stem
MASK_NAME = re.compile(
    rf"(.+?)[\W_]+(?:[a-z]+[\W_]+)?(?:{'|'.join(sorted(MASK_WORDS, reverse=True))})(?:\.[a-z]\w*)?", re.IGNORECASE
)
KEEP_WORDS = frozenset({"no", "non", "not", "un", "without", "with", "and"})  # `without_labels`, `images_and_masks`

SYSTEM, HIDDEN, MASKS = "in system folders", "under hidden names", "of masks or the like"
COPIES, OTHERS, CLOSED = "half written or kept as backups", "of no image format", "that cannot be opened"
TWICE, UNLISTED = "reached twice through links", "that cannot be listed"
FOLDERS = {TWICE, UNLISTED}

_said: set[str] = set()


class LeftOut:
    """Files and folders that are not listed as images, counted by the reason.

    Attributes:
        counts: number of files, or of folders for the reasons in `FOLDERS`, by reason.
        names: names of folders, files or suffixes to show, with their numbers, by reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.names: dict[str, Counter[str]] = {}

    def add(self, reason: str, name: str, *, number: int = 1) -> None:
        """Count files that are left out."""
        if number:
            self.counts[reason] += number
            self.names.setdefault(reason, Counter())[name] += number

    def __str__(self) -> str:
        return ", ".join(self._described(reason) for reason in sorted(self.counts))

    def _described(self, reason: str) -> str:
        number, names = self.counts[reason], [shortened(name) for name in self.names[reason]]
        more = "" if len(names) <= NAMES_SHOWN else ", ..."
        what = ("folder" if reason in FOLDERS else "file") + "s" * (number != 1)
        return f"{number:,} {what} {reason} ({', '.join(names[:NAMES_SHOWN])}{more})"

    def say(self, where: Path, *, logger: logging.Logger) -> None:
        """Log in one line what was left out; silent where nothing was."""
        if self.counts:
            say_once(f"{printable(where)}: left out: {self}", logger=logger)


def say_once(line: str, *, logger: logging.Logger) -> None:
    """Log a warning once: the splits of a data set may come from one folder, which is looked at several times."""
    if line not in _said and logger.isEnabledFor(logging.WARNING):
        _said.add(line)
        logger.warning("%s", line)


def list_files(folder: Path, *, left_out: LeftOut, stops: bool = True) -> Iterator[str]:
    """List the images below a folder: its own in sorted order, then those of each sub-folder.

    A file with one of `IMAGE_SUFFIXES` is an image and is not opened; any other is told by its first bytes. Links to
    files and folders are followed, each real folder once. Hidden files, system folders, and folders of masks,
    thumbnails and the like below `folder` are left out; `folder` itself is read whatever it is called.

    Args:
        folder: folder to list.
        left_out: counts of what is left out, to add to.
        stops: True to stop at a folder that cannot be listed, False to warn and go on.

    Yields:
        Paths of the images.

    Raises:
        OSError: a folder cannot be listed, and `stops` is True.
    """
    waiting, seen = [os.fspath(folder)], set[tuple[int, int]]()
    while waiting:  # no recursion: folders may be nested more deeply than Python's stack
        current = waiting.pop()
        try:
            status = os.stat(current)  # noqa: PTH116  # paths stay text: Path is slow for a million names
            if (status.st_dev, status.st_ino) in seen:
                left_out.add(TWICE, os.path.relpath(current, folder))
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            refuse_shortage(error, current)  # else a part of the images would be taken for all
            if stops:
                raise
            left_out.add(UNLISTED, os.path.basename(current))  # noqa: PTH119
            logger.warning("%s: cannot be listed (%s)", printable(current), error.strerror)
            continue
        files: list[os.DirEntry[str]] = []
        inner: list[os.DirEntry[str]] = []
        for entry in entries:
            (inner if _is_folder(entry) else files).append(entry)
        yield from _images_of(files, left_out)
        waiting += [entry.path for entry in reversed(inner) if not _leaves_out(entry, left_out)]


def reason_to_leave_out(name: str) -> str | None:
    """Tell why a folder of this name is left out below a listed one; None if it is read."""
    if name.startswith("."):
        return HIDDEN
    if SYSTEM_FOLDER.fullmatch(name):
        return SYSTEM
    words = _words(name)
    return MASKS if MASK_WORDS.intersection(words) and not KEEP_WORDS.intersection(words) else None


def is_image(path: str, left_out: LeftOut) -> bool:
    """Tell if a file is an image, by its suffix or else by its first bytes; count it if it is none."""
    name = path.rpartition(os.sep)[2]
    if f".{name.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES and name[0] != "." and name[:8].lower() != "dicomdir":
        return True  # without a slower look, for a million files
    suffix = suffix_of(name)
    if name.startswith("."):
        reason = HIDDEN
    elif HALF_WRITTEN.fullmatch(name):
        reason = COPIES
    elif name.lower().startswith("dicomdir"):
        reason = OTHERS
    else:
        head = _head(path)
        if head is not None and _shows_image(head, suffix):
            return True
        reason = CLOSED if head is None else OTHERS
    if not NOT_COUNTED.fullmatch(name):
        left_out.add(reason, (suffix or name) if reason == OTHERS else name)
    return False


def _shows_image(head: bytes, suffix: str) -> bool:
    """Tell from the first bytes of a file if it is an image."""
    return bool(PICTURE_START.match(head)) or (is_dicom(head, suffix) and not DICOM_DIRECTORY.search(head))


def _images_of(entries: list[os.DirEntry[str]], left_out: LeftOut) -> Iterator[str]:
    """List the images among the files of one folder, without the mask `a_mask.png` of an image `a.png`."""
    stems_of = ((entry.name, entry.name.rpartition(".")[0]) for entry in entries)
    named = [name for name, stem in stems_of if stem[-1:].isalpha() and stem.lower().endswith(MASK_ENDS)]
    films = {name: match[1] for name in named if (match := MASK_NAME.fullmatch(name))}
    stems = {stem_of(entry.name) for entry in entries} if films else set[str]()
    for entry in entries:
        if films and films.get(entry.name) in stems:
            left_out.add(MASKS, entry.name)
        elif is_image(entry.path, left_out):
            yield entry.path


def _words(name: str) -> list[str]:
    """Split a name into lower-case words, and add what neighbours form: heat_maps gives heat, maps, heatmaps."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return [*map("".join, zip(words, words[1:], strict=False)), *words]


def _leaves_out(entry: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Tell if a folder is left out; count its files."""
    reason = reason_to_leave_out(entry.name)
    if reason is not None and entry.name != OWN_FOLDER:
        left_out.add(reason, f"{entry.name}/", number=num_files(entry.path))
    return reason is not None


def num_files(folder: str | Path) -> int:
    """Count the files below a folder that is not read; links and folders that cannot be listed do not count."""
    number, waiting = 0, [os.fspath(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    number += not NOT_COUNTED.fullmatch(entry.name)
    return number


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself counts as a file; reading it as an image fails with a clear message
        return False


def _head(path: str) -> bytes | None:
    """Read the first bytes of a file; None for a file that cannot be opened, and for a pipe, which would block."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            return os.read(handle, HEAD_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else None
        finally:
            os.close(handle)
    except OSError:
        return None
