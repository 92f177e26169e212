"""The images that a checkpoint was trained on, and those to validate with, where DATA_PATH holds them."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad.build import find_images, scan_images
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.datasets import read_split
from salad.errors import InputError
from salad.samples import NORMAL, Split

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


def find_training_images(config: Config, checkpoint: Checkpoint) -> Split:
    """The training split of a checkpoint, with its pixels.

    Args:
        config: of the scoring.
        checkpoint: ours or a published one, of which only the number of its images is known.

    Raises:
        InputError: DATA_PATH does not hold the same images.
    """
    had = checkpoint.config or {}
    try:
        train = read_split(config.dataset_name, config.data_path, "train", selection=config.selection)
        assert train is not None, "only val may be absent"
        train = train if had.get("train_on", "all") == "all" else train.only_normal()
        if had.get("on_bad_image") == "skip" and train.fingerprint != checkpoint.training["images"]:
            train = scan_images(dataclasses.replace(config, on_bad_image="skip"), {"train": train})["train"]
    except InputError as error:
        raise InputError(f"the training images are not at hand ({error})") from None
    known = checkpoint.training.get("images", f"{len(checkpoint.bank.rows)} images")  # a published file tells no more
    found = train.fingerprint if "images" in checkpoint.training else f"{len(train.samples)} images"
    if found != known:
        raise InputError(f"the model was trained on {known}, but train/ holds {found}")
    return dataclasses.replace(train, images=find_images(config, train, name="train"))


def find_val(config: Config) -> Split | None:
    """The images of val/ as they are listed; None where there are none, or they cannot be."""
    try:
        return read_split(config.dataset_name, config.data_path, "val", selection=config.selection)
    except InputError as error:
        logger.debug("val/ cannot be used: %s", error)
        return None


def find_row_labels(config: Config, checkpoint: Checkpoint) -> Tensor:
    """0 normal, 1 abnormal, of every memory row: from the checkpoint, else from train/ if its images are as many."""
    if checkpoint.row_labels is not None:
        return checkpoint.row_labels
    num_rows = len(checkpoint.bank.rows)
    try:
        train = read_split(config.dataset_name, config.data_path, "train", selection=config.selection)
        labels = train.labels if train else []
    except InputError as error:
        logger.warning("the file holds no row labels, and train/ does not give them: %s", error)
        labels = []
    if len(labels) == num_rows:
        return torch.tensor(labels)
    logger.warning(
        "the memory has %d rows, but %s holds %d images: which rows are normal is unknown, so all count as normal",
        num_rows,
        config.data_path / "train",
        len(labels),
    )
    return torch.full((num_rows,), NORMAL)
