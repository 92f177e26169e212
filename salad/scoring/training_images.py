"""Training and validation images of a checkpoint, found in DATA_PATH."""

from __future__ import annotations

import dataclasses
import logging

import torch
from torch import Tensor

from salad.build import RunContext
from salad.checkpoint import Checkpoint
from salad.checks.more_normals import find_more_normals
from salad.config import Config
from salad.datasets import read_split
from salad.errors import InputError, printable
from salad.samples import NORMAL, OWN_KIND, Split
from salad.scores import SCORES

logger = logging.getLogger(__name__)


def find_training_images(context: RunContext, checkpoint: Checkpoint) -> Split:
    """Find the training split of a checkpoint, with its pixels.

    Args:
        context: context of the scoring.
        checkpoint: checkpoint of this program, or a published one, which records only the number of images.

    Raises:
        InputError: DATA_PATH does not hold the same images.
    """
    options = checkpoint.config or {}
    try:
        train = _read(context.config, "train")
        assert train is not None, "only val may be absent"
        more = find_more_normals(context.config.data, train=train, val=find_val(context.config)).samples
        train = train if options.get("train_on", "all") == "all" else train.only_normal()
        train = dataclasses.replace(train, samples=[*train.samples, *more])
        if options.get("on_bad_image") == "skip" and train.fingerprint != checkpoint.training["images"]:
            skipping = dataclasses.replace(context, config=context.config.changed(on_bad_image="skip"))
            train = skipping.scan({"train": train})["train"]
    except InputError as error:
        raise InputError(f"the training images are not available ({error})") from None
    known = checkpoint.training.get(
        "images", f"{len(checkpoint.bank.rows)} images"
    )  # all that a published file records
    current = train.fingerprint if "images" in checkpoint.training else f"{len(train.samples)} images"
    if current != known:
        raise InputError(f"the model was trained on {known}, but train/ holds {current}")
    return dataclasses.replace(train, images=context.find_images(train, name="train"))


def find_val(config: Config) -> Split | None:
    """List the images of val/; None if there are none, or if they cannot be listed."""
    try:
        return _read(config, "val")
    except InputError as error:
        logger.debug("val/ cannot be used: %s", error)
        return None


def find_row_labels(config: Config, checkpoint: Checkpoint) -> tuple[Tensor, tuple[str, ...]]:
    """Find the label of every memory row.

    Checkpoints of this program hold the labels. For a published file they are the labels of train/ if it holds as many
    images as the memory has rows; else all rows count as normal, with a warning.

    Args:
        config: options of the scoring.
        checkpoint: checkpoint of this program or a published one.

    Returns:
        Labels, 0 normal and 1 abnormal, (N,), and warnings about them if a score uses the rows.
    """
    if checkpoint.row_labels is not None:
        return checkpoint.row_labels, ()
    num_rows, labels, why = len(checkpoint.bank.rows), [], ""
    try:
        train = _read(config, "train")
        labels = train.labels if train else []
    except InputError as error:
        why = f" ({error})"
    if len(labels) == num_rows:
        return torch.tensor(labels), ()
    caution = (
        f"the labels of the memory rows are unknown, so all count as normal: {printable(checkpoint.path)} has "
        f"{num_rows} rows, but train/ of DATA_PATH has {len(labels)} images{why}"
    )
    uses_rows = any(SCORES[part].uses_rows for part in config.scoring.parts)
    return torch.full((num_rows,), NORMAL), (caution,) if uses_rows else ()


def kinds_of_memory(checkpoint: Checkpoint, *, num_rows: int) -> dict[str, int]:
    """Count the normal images behind the memory of a checkpoint by kind; an older file counts them as `OWN_KIND`.

    Args:
        checkpoint: checkpoint of this program or a published one.
        num_rows: number of memory rows of normal images.
    """
    num_images = num_rows // max(1, int((checkpoint.config or {}).get("n_views", 1)))
    return dict(checkpoint.training.get("kinds") or {OWN_KIND: num_images})


def _read(config: Config, split: str) -> Split | None:
    """List the images of a split of DATA_PATH."""
    data = config.data
    return read_split(data.dataset_name, data.data_path, split, selection=data.selection)
