"""Options of a data set: where it lies, what is taken of it, and how its files are read."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from salad.config.declare import INSPECT, PREDICT, SCORES_TOO, TEST, TRAIN, argument, option
from salad.datasets import DATASETS, check_dataset
from salad.samples import Selection

READS_DATA = TRAIN, TEST, INSPECT


def num_cores() -> int:
    """Count the processor cores that this process may use, 16 at the most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, available)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of the data set."""

    dataset_name: str = argument(f"the data set: {', '.join(DATASETS)}", commands=READS_DATA)
    data_path: Path = argument(
        "folder of the images, or the .npz or table that holds or lists them", commands=READS_DATA, may_change=True
    )

    normal_class: str | None = option(
        None,
        "Class that counts as normal: a folder by name or by index in sorted order, a label of a table, or the index "
        "in MedMNIST  [default: the first, or what the data set calls normal]",
        commands=READS_DATA,
        of_model=True,
    )
    split_dir: Path | None = option(
        None,
        "Folder of lists, train.txt, val.txt (optional) and test.txt, with an image a line and after it, optionally, "
        "0 or 1  [default: the lists of the data set]",
        commands=READS_DATA,
        may_change=True,
        of_model=True,
    )
    view: str | None = option(
        None, "Take this view only  [default: all]", choices=("PA", "AP"), commands=READS_DATA, of_model=True
    )
    min_age: int | None = option(
        None, "Take patients of this age or older, in years  [default: all]", low=0, commands=READS_DATA, of_model=True
    )
    part: str | None = option(
        None, "Take this part of the body only, XR_HAND say  [default: all]", commands=READS_DATA, of_model=True
    )
    val_share: float = option(
        0.0,
        "Share of the patients of train that are held out to validate with, where the data set has no val.",
        low=0,
        high=0.5,
        commands=(TRAIN, INSPECT),
        of_model=True,
    )
    train_on: str = option(
        "normal",
        "normal leaves out the abnormal images of train/; all, the authors' protocol, scores against normal rows only.",
        choices=("normal", "all"),
        commands=(TRAIN, INSPECT),
    )
    strict: bool = option(
        False,
        "Stop (exit status 2) where images or patients of one split are in another, too, rather than warn.",
        commands=READS_DATA,
        may_change=True,
    )
    on_bad_image: str = option(
        "error",
        "Check of all images before a run: error lists those that cannot be read and stops; skip leaves them out and "
        "writes skipped.csv. A file that turns bad during the run stops it with both.",
        choices=("error", "skip"),
        may_change=True,
    )
    cache: str | None = option(
        None,
        "Folder for the images as they are after decoding and resizing, so that every file is decoded once, or off  "
        "[default: .salad_cache in DATA_PATH or, where that is read-only, in the user's cache folder]",
        may_change=True,
    )
    batch_size: int = option(
        32, "Images in a batch, at most; batches of an epoch are of equal size up to one.", low=1, commands=SCORES_TOO
    )
    n_jobs_dataloader: int = option(
        num_cores(),
        "Threads that decode and read images; 0 leaves it to the main thread.",
        commands=(TRAIN, TEST, INSPECT, PREDICT),
        low=0,
        may_change=True,
    )

    def __post_init__(self) -> None:
        check_dataset(self.dataset_name, self.selection)

    @property
    def selection(self) -> Selection:
        """Selection from the data set."""
        return Selection(**{one.name: getattr(self, one.name) for one in dataclasses.fields(Selection)})
