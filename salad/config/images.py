"""The parameters of what is read: which images, and how they become squares of grey."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from salad.config.declare import EXPORT, INSPECT, PREDICT, TEST, TRAIN, argument, option

SCORES_TOO = TRAIN, TEST, PREDICT
KNOWN_TO_FILES = *SCORES_TOO, EXPORT


def num_cores() -> int:
    """Processor cores that this process may use, 16 at the most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, available)


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The part of a `Config` that says where images come from; `None` stands for a default that depends on others."""

    dataset_name: str = argument("the data set", commands=(TRAIN, TEST, INSPECT))
    net_name: str = argument("the network")
    xp_path: Path = argument("folder for everything that is written", may_change=True)
    data_path: Path = argument(
        "folder of the images, or the .npz or table that holds or lists them",
        commands=(TRAIN, TEST, INSPECT),
        may_change=True,
    )

    isize: int | None = option(
        None,
        "Height and width that images are resized to, in pixels  [default: 224 for CXR_resnet18, 256 for unet]",
        low=1,
        high=8192,
        commands=KNOWN_TO_FILES,
    )
    resize: str = option(
        "squash",
        "How an image becomes square: squash, pad (black borders) or crop (the middle).",
        choices=("squash", "pad", "crop"),
        commands=KNOWN_TO_FILES,
    )
    trim: bool = option(
        False, "Cut black borders and uniform frames off before that, at most 40 % of a side.", commands=KNOWN_TO_FILES
    )
    normalize: str = option(
        "fixed",
        "Grey levels of an image: fixed (as they are), standardize (mean 0, standard deviation 1, cut at 3) or clahe "
        "(contrast-limited adaptive histogram equalisation).",
        choices=("fixed", "standardize", "clahe"),
        commands=KNOWN_TO_FILES,
    )
    crop: float = option(
        1.0,
        "Share of each side, around the middle, that the network sees; images are decoded so much larger that it has "
        "isize pixels.",
        low=0,
        high=1,
        open_low=True,
        commands=KNOWN_TO_FILES,
    )
    align: bool = option(
        False,
        "Bring each image to the framing (widths, heights, places) of the mean normal training image.",
        commands=KNOWN_TO_FILES,
    )
    normal_class: str | None = option(
        None,
        "Class that counts as normal: a folder by name or by index in sorted order, a label of a table, or the index "
        "in MedMNIST  [default: the first, or what the data set calls normal]",
        commands=(TRAIN, TEST, INSPECT),
    )
    split_dir: Path | None = option(
        None,
        "Folder of lists, train.txt, val.txt (optional) and test.txt, with an image a line and after it, optionally, "
        "0 or 1  [default: the lists of the data set]",
        commands=(TRAIN, TEST, INSPECT),
        may_change=True,
    )
    view: str | None = option(
        None, "Take this view only  [default: all]", choices=("PA", "AP"), commands=(TRAIN, TEST, INSPECT)
    )
    min_age: int | None = option(
        None, "Take patients of this age or older, in years  [default: all]", low=0, commands=(TRAIN, TEST, INSPECT)
    )
    part: str | None = option(
        None, "Take this part of the body only, XR_HAND say  [default: all]", commands=(TRAIN, TEST, INSPECT)
    )
    val_share: float = option(
        0.0,
        "Share of the patients of train that are held out to validate with, where the data set has no val.",
        low=0,
        high=0.5,
        commands=(TRAIN, INSPECT),
    )
    train_on: str = option(
        "normal",
        "normal leaves out the abnormal images of train/; all, the authors' protocol, scores against normal rows only.",
        choices=("normal", "all"),
        commands=(TRAIN, INSPECT),
    )
    augment: str = option(
        "ssl",
        "Views: ssl (crop, rotation, exposure, blur, noise, local shuffling, cutout) or flip (as released).",
        choices=("ssl", "flip"),
        commands=(TRAIN,),
    )
    n_views: int = option(
        1,
        "Differently augmented views of an image in a batch, each with its own memory row.",
        low=1,
        commands=(TRAIN,),
    )
    batch_size: int = option(
        32, "Images in a batch, at most; batches of an epoch are of equal size up to one.", low=1, commands=SCORES_TOO
    )
    cache: str | None = option(
        None,
        "Folder for the images as they are after decoding and resizing, so that every file is decoded once, or off  "
        "[default: .salad_cache in DATA_PATH or, where that is read-only, in the user's cache folder]",
        may_change=True,
    )
    n_jobs_dataloader: int = option(
        num_cores(),
        "Threads that decode and read images; 0 leaves it to the main thread.",
        commands=(TRAIN, TEST, INSPECT, PREDICT),
        low=0,
        may_change=True,
    )
    on_bad_image: str = option(
        "error",
        "What the check of all images before a run does with those that cannot be read: error (lists all, stops) or "
        "skip (leaves them out, writes skipped.csv). A file that turns bad during the run stops it with both.",
        choices=("error", "skip"),
        may_change=True,
    )

    strict: bool = option(
        False,
        "Stop (exit status 2) where images or patients of one split are in another, too, rather than warn.",
        commands=(TRAIN, TEST, INSPECT),
        may_change=True,
    )
