"""Options of a data set: its location, the selection of images, and the reading of files."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from salad.config.declare import ENROL, INSPECT, PREDICT, SCORES_TOO, TEST, TRAIN, argument, option
from salad.datasets import DATASETS, check_dataset
from salad.errors import InputError
from salad.samples import Selection

READS_DATA = TRAIN, TEST, INSPECT


def num_cores() -> int:
    """Count the processor cores that this process may use, up to 16."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, available)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of the data set."""

    dataset_name: str = argument(f"data set: {', '.join(DATASETS)}", commands=READS_DATA)
    data_path: Path = argument(
        "folder of the images, .npz file that holds them, or table that lists them",
        commands=READS_DATA,
        may_change=True,
    )

    normal_class: str | None = option(
        None,
        "Class that counts as normal: name of a class folder or its index in sorted order, label of a table, or index "
        "of a MedMNIST class  [default: the first, unless the data set names another]",
        commands=READS_DATA,
        of_model=True,
    )
    abnormal: Path | None = option(
        None,
        "Folder of abnormal images, with its subfolders, for the data set Folders. They and the normal images of the "
        "same patients are test images  [default: none]",
        commands=READS_DATA,
        may_change=True,
        of_model=True,
    )
    split_dir: Path | None = option(
        None,
        "Folder of the lists train.txt, test.txt and, optionally, val.txt: one image on each line, optionally followed "
        "by its label, 0 (normal) or 1 (abnormal)  [default: the lists of the data set]",
        commands=READS_DATA,
        may_change=True,
        of_model=True,
    )
    view: str | None = option(
        None,
        "Use images of this view only  [default: all views]",
        choices=("PA", "AP"),
        commands=READS_DATA,
        of_model=True,
    )
    min_age: int | None = option(
        None, "Smallest age of the patients, in years  [default: no limit]", low=0, commands=READS_DATA, of_model=True
    )
    part: str | None = option(
        None,
        "Use images of this part of the body only, for example XR_HAND  [default: all parts]",
        commands=READS_DATA,
        of_model=True,
    )
    val_share: float = option(
        0.0,
        "Share of the training patients to hold out for validation if the data set has no val split.",
        low=0,
        high=0.5,
        commands=(TRAIN, INSPECT),
        of_model=True,
    )
    more_normals: tuple[Path, ...] | None = option(
        None,
        "Folder or table of further normal images, of other ages, views or hospitals. They are added to training and "
        "memory; standards, threshold and percentiles come from val/ only. Repeatable  [default: none]",
        may_change=True,
        of_model=True,
    )
    train_on: str = option(
        "normal",
        "Images of train/ to train on: normal ones only, or all (the authors' protocol). Scores compare an image with "
        "normal ones only.",
        choices=("normal", "all"),
        commands=(TRAIN, INSPECT),
    )
    strict: bool = option(
        False,
        "Stop with exit status 2, instead of warning, if two splits share images or patients; inspect also stops if "
        "images cannot be read.",
        commands=READS_DATA,
        may_change=True,
    )
    on_bad_image: str = option(
        "error",
        "Reaction to images that cannot be read in the check before a run: error lists them and stops; skip leaves "
        "them out and lists them in skipped.csv. A file that becomes unreadable during the run always stops it.",
        choices=("error", "skip"),
        may_change=True,
    )
    cache: str | None = option(
        None,
        "Folder for decoded and resized images, so that each file is decoded only once; off for no cache  "
        "[default: .salad_cache in DATA_PATH or, if that is read-only, in the user's cache folder]",
        may_change=True,
    )
    batch_size: int = option(
        32,
        "Largest number of images in a batch; batch sizes of an epoch differ by at most 1.",
        low=1,
        commands=SCORES_TOO,
    )
    n_jobs_dataloader: int = option(
        num_cores(),
        "Number of threads that read and decode images; 0 uses the main thread.",
        commands=(TRAIN, TEST, INSPECT, PREDICT, ENROL),
        low=0,
        may_change=True,
    )

    def __post_init__(self) -> None:
        check_dataset(self.dataset_name, self.selection)
        if self.cache is not None and not self.cache.strip():
            raise InputError("--cache is an empty path: is a variable not set? off is for no cache")

    @property
    def selection(self) -> Selection:
        """Selection of images from the data set."""
        return Selection(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Selection)})
