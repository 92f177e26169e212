"""Read `Folders`: normal images anywhere below DATA_PATH, abnormal ones below --abnormal, split by patient."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from salad.datasets.annotate import annotate, find_tables
from salad.datasets.folders import Masks
from salad.datasets.hold_out import patient_of
from salad.datasets.layout import check_there, holds_splits
from salad.datasets.lists import DRAWN_SHARES, drawn_split, inner_name, make_split
from salad.datasets.one_class import inner_folders, refuse_findings, refuse_names
from salad.datasets.tables import shown
from salad.datasets.words import Sense, sense_of
from salad.errors import InputError, printable
from salad.images.listing import LeftOut, list_files, say_once
from salad.images.read import IMAGE_SUFFIXES
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

logger = logging.getLogger(__name__)

FLAG = "--abnormal"
NORMAL_CLASS, ABNORMAL_CLASS = CLASSES = ("normal", "abnormal")
MIN_PATIENTS = 10  # with normal images: a tenth of fewer is none
WAY_OUT = "name that folder with --abnormal, or read train/ and test/ of class folders with the data set CXR_author"
Parts = dict[str, list[Sample]]  # samples by split


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split.

    A digest of the patient, or of the path inside DATA_PATH where the patient is unknown, assigns normal images to
    train, val and test, so that a new image moves no other. All abnormal images are in test, with the normal ones of
    their patients.

    Args:
        data_path: folder of normal images, at any depth.
        split: ``train``, ``val`` or ``test``.
        selection: `abnormal` applies. One of the two folders may hold the other; an image then is of the inner one.

    Returns:
        The split; None if the digest assigns no image to val.

    Raises:
        InputError: a folder is missing or holds no image, there are too few images, or names or tables say that images
            are of the other class.
        OSError: a folder cannot be listed.
    """
    if not data_path.is_dir():
        raise InputError(f"{printable(data_path)}: is a file: Folders reads a folder of normal images")
    files = _list_files(data_path, selection.abnormal)
    refuse_names(data_path, files[NORMAL], label=NORMAL, option="", way_out=WAY_OUT)
    folders = {NORMAL: data_path}
    if selection.abnormal is not None:
        folders[ABNORMAL] = selection.abnormal
        way_out = "give the folder of the abnormal images instead"
        refuse_names(selection.abnormal, files[ABNORMAL], label=ABNORMAL, option=FLAG, way_out=way_out)
    samples = _describe(files, folders)
    normal = [sample for sample in samples if sample.label == NORMAL]
    refuse_findings(data_path, normal, option="", way_out="name the folder of the abnormal ones with --abnormal")
    parts = _share_out(samples)
    _check_enough(parts, data_path)
    _say(parts, data_path, holds_out=selection.val_share > 0)
    made = make_split(parts[split], split=split, where=data_path, classes=CLASSES, normal_class=NORMAL_CLASS, absent=[])
    doubts = tuple(_find_doubts(data_path, files[NORMAL])) if split == "train" else ()
    return made and replace(made, doubts=doubts)


def _list_files(data_path: Path, abnormal: Path | None) -> dict[int, list[Path]]:
    """List the images by label; one that lies below both folders is of the inner one.

    Raises:
        InputError: the folders are the same, or one of them is missing or holds no image.
    """
    normals, abnormals = _files_below(data_path), dict[str, Path]()
    if abnormal is not None:
        check_there(abnormal, option=FLAG)
        if not abnormal.is_dir():
            raise InputError(f"{FLAG} {printable(abnormal)}: is a file: give a folder of abnormal images")
        outer, inner = (Path(os.path.realpath(folder)) for folder in (abnormal, data_path))
        if outer == inner:
            raise InputError(
                f"{FLAG} {printable(abnormal)}: is DATA_PATH, whose images are normal: give another folder"
            )
        abnormals = _files_below(abnormal)
        if inner.is_relative_to(outer):
            abnormals = {real: file for real, file in abnormals.items() if real not in normals}
        else:
            normals = {real: file for real, file in normals.items() if real not in abnormals}
        if not abnormals:
            raise InputError(f"{FLAG} {printable(abnormal)}: holds no image besides those of DATA_PATH")
    if not normals:
        besides = " besides those of --abnormal" if abnormal is not None else f" ({', '.join(sorted(IMAGE_SUFFIXES))})"
        raise InputError(f"{printable(data_path)}: holds no image{besides}")
    return {NORMAL: list(normals.values()), ABNORMAL: list(abnormals.values())}


def _files_below(folder: Path) -> dict[str, Path]:
    """List the images below a folder by their real paths, each once; say what is left out."""
    left_out, files = LeftOut(), dict[str, Path]()
    for file in list_files(folder, left_out=left_out):
        files.setdefault(os.path.realpath(file), Path(file))
    left_out.say(folder, logger=logger)
    return files


def _describe(files: dict[int, list[Path]], folders: dict[int, Path]) -> list[Sample]:
    """Make the samples of both classes, with what tables and file names tell of them.

    What is known of normal images, and so their split, does not depend on the abnormal ones.

    Args:
        files: images by label.
        folders: folder of each label, the normal one first.
    """
    samples: list[Sample] = []
    drafted: dict[Path, list[Sample]] = defaultdict(list)
    prefix = {NORMAL: "", ABNORMAL: f"{ABNORMAL_CLASS}/"}
    for label, folder in folders.items():
        holder, masks = _holder_of_tables(folder, folders[NORMAL]), Masks(folder)
        inside = os.path.relpath(os.path.realpath(folder), holder).replace(os.sep, "/")
        start = "" if inside == os.curdir else f"{inside}/"
        names = [inner_name(file, folder) for file in files[label]]
        drafts = [
            Sample(file, start + name, label, mask=masks.find(file))
            for file, name in zip(files[label], names, strict=True)
        ]
        masks.say()
        # those of the other class show which file names alone are ambiguous
        annotated = annotate([*drafts, *drafted[holder]], holder)[: len(drafts)]
        drafted[holder] += drafts
        samples += [replace(sample, name=prefix[label] + name) for sample, name in zip(annotated, names, strict=True)]
    return samples


def _holder_of_tables(folder: Path, data_path: Path) -> Path:
    """Find the folder whose tables tell of the images of a folder, as a real path.

    It is the folder itself if it holds a table, else DATA_PATH if the folder lies in it, or the folder above.
    """
    own, normal = (Path(os.path.realpath(path)) for path in (folder, data_path))
    around = [normal] if own.is_relative_to(normal) else []
    return next((holder for holder in (own, *around, own.parent) if find_tables(holder)), own)


def _share_out(samples: list[Sample]) -> Parts:
    """Assign samples to splits: by a digest of the patient, but all of a patient with an abnormal image to test."""
    parts: Parts = {split: [] for split in DRAWN_SHARES}
    abnormal = {sample.patient for sample in samples if sample.label == ABNORMAL} - {None}
    for sample in samples:
        is_of_test = sample.label == ABNORMAL or sample.patient in abnormal
        parts["test" if is_of_test else drawn_split(patient_of(sample))].append(sample)
    return parts


def _check_enough(parts: Parts, data_path: Path) -> None:
    """Raise `InputError` if there are too few patients, or if the digest leaves train or test without normal images."""
    normal = _normals_of(parts)
    listed = [sample for samples in normal.values() for sample in samples]
    counted = f"{printable(data_path)}: the normal images, {len(listed)} of {_num_patients(listed)} patients,"
    if _num_patients(listed) < MIN_PATIENTS:
        raise InputError(
            f"{counted} are too few to share out into train, val and test: give those of at least {MIN_PATIENTS} "
            "patients, better 100 or more"
        )
    if empty := [split for split in ("train", "test") if not normal[split]]:
        raise InputError(f"{counted} are too few: their digests assign none to {empty[0]}; add more")


def _say(parts: Parts, data_path: Path, *, holds_out: bool) -> None:
    """Log once what the splits hold, and how the images were assigned to them.

    Args:
        parts: samples by split.
        data_path: folder of the normal images.
        holds_out: True if images of train are held out where val is empty.
    """
    normal = _normals_of(parts)
    unknown = sum(sample.patient is None for samples in parts.values() for sample in samples)
    knows = unknown < sum(map(len, parts.values()))
    shares = ", ".join(
        f"{split} {len(samples):,}" + (f" of {_num_patients(samples):,} patients" if knows else "")
        for split, samples in normal.items()
    )
    abnormal = [sample for sample in parts["test"] if sample.label == ABNORMAL]
    patients = {sample.patient for sample in abnormal} - {None}
    moved = sum(sample.patient in patients for sample in normal["test"])
    digest = "the patient" if knows else "the path, as no patient is known"
    lines = [
        f"{printable(data_path)}: normal images are split by a digest of {digest}: {shares}",
        f"all {len(abnormal):,} abnormal ones are in test"
        if abnormal
        else "there are no abnormal ones (--abnormal DIR)",
        *([f"so are {moved:,} normal ones of the same patients"] if moved else []),
        *([f"{unknown:,} images of unknown patients count as a patient each"] if unknown and knows else []),
        *([] if parts["val"] or holds_out else ["--val_share 0.1 holds images of train out, since val is empty"]),
    ]
    say_once("; ".join(lines), logger=logger)


def _normals_of(parts: Parts) -> Parts:
    return {split: [sample for sample in samples if sample.label == NORMAL] for split, samples in parts.items()}


def _num_patients(samples: list[Sample]) -> int:
    return len({patient_of(sample) for sample in samples})


def _find_doubts(data_path: Path, files: list[Path]) -> list[str]:
    """List doubts about the folders below DATA_PATH, one line each."""
    beside: dict[tuple[str, ...], set[str]] = defaultdict(set)  # names of the folders in a folder
    for parts in inner_folders(data_path, files):
        for depth, name in enumerate(parts):
            beside[parts[:depth]].add(name)
    doubts = []
    if unsure := sorted(name for names in beside.values() for name in names if sense_of(name) is Sense.UNSURE):
        doubts.append(f"images of {shown(unsure)} may not be normal, but count as normal")
    for names in beside.values():
        others = sorted(name for name in names if sense_of(name) is None)
        normal = sorted(name for name in names if sense_of(name) is Sense.NORMAL)
        if others and normal:
            doubts.append(f"images of {shown(others)} beside {shown(normal)} count as normal, too")
    if holds_splits(data_path):
        doubts.append("train/ and test/ are not read as splits; the data set CXR_author does that")
    return [printable(doubt) for doubt in doubts]
