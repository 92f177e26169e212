"""Images of a data set as links in class folders, so that every method reads the same files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.jitter import FOLDERS, write_jittered
from benchmarks.protocol import Data
from salad.datasets import read_split
from salad.samples import NORMAL, Sample, Selection

VAL_SHARE = 0.1  # of the training patients where a data set has no val/
TRAIN, VAL, TEST = f"train/{FOLDERS[NORMAL]}", f"val/{FOLDERS[NORMAL]}", "test"
JITTERED = "jittered/test"


@dataclass(frozen=True)
class Films:
    """Folder of links: normal images in train/ and val/, both classes in test/, and jittered copies of test/.

    Val has no abnormal images, so that no method can choose anything by them.

    Attributes:
        folder: of the links.
    """

    folder: Path

    @property
    def test(self) -> list[Sample]:
        """Test images with their labels, views and boxes, in the order of their file names."""
        test = read_split("CXR_author", self.folder, "test")
        assert test is not None, "only val may be absent"
        return test.samples


def link(data: Data, folder: Path) -> Films:
    """Link the images of a data set, and write jittered copies of its test images; nothing if that is done.

    Raises:
        InputError: the data set cannot be listed.
        click.BadParameter: its images are no files of their own.
    """
    if folder.exists():
        return Films(folder)
    chosen = Selection(val_share=VAL_SHARE)
    splits = {split: read_split(data.dataset_name, data.path, split, selection=chosen) for split in ("train", "val")}
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    lines: list[list[object]] = []
    boxes: list[list[object]] = []
    for split, listed in {**splits, TEST: data.test}.items():
        if listed is None:
            continue
        kept = listed.samples if split == TEST else listed.only_normal().samples
        for number, sample in enumerate(kept):
            name = _link(sample, unfinished / split / FOLDERS[sample.label], number)
            path = f"{split}/{FOLDERS[sample.label]}/{name}"
            lines.append([path, sample.patient or path, sample.view or ""])
            boxes += [[path, left, top, right - left, bottom - top] for left, top, right, bottom in sample.boxes]
    _write(unfinished / "films.csv", [["path", "patient", "view"], *lines])
    if boxes:
        _write(unfinished / "boxes.csv", [["path", "x", "y", "width", "height"], *boxes])
    write_jittered(data.test, unfinished / JITTERED.partition("/")[0])
    unfinished.rename(folder)
    return Films(folder)


def _link(sample: Sample, folder: Path, number: int) -> str:
    """Link an image by its number, and return the name of the link."""
    if sample.row is not None:
        raise click.BadParameter(f"{sample.path} holds many images in an array, but the peers read files: unpack it")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{number:06}{sample.path.suffix}"
    target.unlink(missing_ok=True)  # of an interrupted call
    target.symlink_to(sample.path.resolve())
    return target.name


def _write(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
