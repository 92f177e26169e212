"""Training and validation images of a checkpoint, found in DATA_PATH."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os

import numpy as np
import torch
from torch import Tensor

from salad.build import RunContext
from salad.checkpoint import Checkpoint
from salad.checks.leaks import NUM_KEPT, Leak
from salad.checks.more_normals import find_more_normals
from salad.config import OPTIONS, Config
from salad.datasets import read_split
from salad.errors import InputError, printable
from salad.images.read import GreyImage
from salad.samples import NORMAL, OWN_KIND, Split
from salad.scores import SCORES

logger = logging.getLogger(__name__)

ENROLLED = "enrolled films"  # their kind


def find_training_images(context: RunContext, checkpoint: Checkpoint) -> Split:
    """Find the training split of a checkpoint, with its pixels.

    Args:
        context: context of the scoring.
        checkpoint: checkpoint of this program, or a published one, which records only the number of images.

    Raises:
        InputError: DATA_PATH does not hold the same images.
    """
    options, config = checkpoint.config or {}, as_trained(context.config, checkpoint)
    try:
        train = _read(config, "train")
        assert train is not None, "only val may be absent"
        more = find_more_normals(config.data, train=train, val=find_val(config)).samples
        train = train if options.get("train_on", "all") == "all" else train.only_normal()
        train = dataclasses.replace(train, samples=[*train.samples, *more])
        if options.get("on_bad_image") == "skip" and train.fingerprint != checkpoint.training["images"]:
            skipping = dataclasses.replace(context, config=context.config.changed(on_bad_image="skip"))
            train = skipping.scan({"train": train})["train"]
    except InputError as error:
        raise InputError(f"the training images are not available ({error})") from None
    num_rows = len(checkpoint.bank.rows) - len(enrolled_in(checkpoint))  # all that a published file records
    known = checkpoint.training.get("images", f"{num_rows} images")
    current = train.fingerprint if "images" in checkpoint.training else f"{len(train.samples)} images"
    if current != known:
        raise InputError(f"the model was trained on {known}, but train/ holds {current}")
    return dataclasses.replace(train, images=context.find_images(train, name="train"))


def as_trained(config: Config, checkpoint: Checkpoint) -> Config:
    """Set --abnormal to that of the training if DATA_PATH is, too: it decides which patients were trained on.

    Args:
        config: options of the scoring.
        checkpoint: checkpoint of this program or a published one.
    """
    trained, data = checkpoint.config or {}, config.data
    is_same = trained.get("dataset_name") == data.dataset_name and "abnormal" in trained
    if not is_same or os.path.realpath(trained["data_path"]) != os.path.realpath(data.data_path):
        return config
    return config.changed(abnormal=OPTIONS["abnormal"].from_json(trained["abnormal"]))


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
    num_enrolled, labels, why = len(enrolled_in(checkpoint)), [], ""
    num_rows = len(checkpoint.bank.rows) - num_enrolled
    try:
        train = _read(config, "train")
        labels = train.labels if train else []
    except InputError as error:
        why = f" ({error})"
    if len(labels) == num_rows:
        return torch.tensor([*labels, *[NORMAL] * num_enrolled]), ()
    caution = (
        f"the labels of the memory rows are unknown, so all count as normal: {printable(checkpoint.path)} has "
        f"{num_rows} rows, but train/ of DATA_PATH has {len(labels)} images{why}"
    )
    uses_rows = any(SCORES[part].uses_rows for part in config.scoring.parts)
    return torch.full((num_rows + num_enrolled,), NORMAL), (caution,) if uses_rows else ()


def num_views_of(checkpoint: Checkpoint) -> int:
    """Number of memory rows of each image."""
    return max(1, int((checkpoint.config or {}).get("n_views", 1)))


def digest_of(pixels: GreyImage) -> str:
    """Digest the pixels of a decoded image: 16 hexadecimal digits."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def find_enrolled(checkpoint: Checkpoint, test: Split) -> Leak | None:
    """Find the images of a scanned test split that were enrolled in the model; None if there are none.

    Raises:
        InputError: an image can no longer be read.
    """
    names = {digest: name for name, digest in enrolled_in(checkpoint)}
    images, pairs = test.images, []
    assert images is not None, "call scan first"
    pixels = np.empty((1, images.isize, images.isize), np.uint8)
    for number, sample in enumerate(test.samples) if names else ():
        images.read([number], pixels)
        if (digest := digest_of(pixels[0])) in names:
            pairs.append((sample.name, names[digest]))
    shared = {name for _, name in pairs}
    shown = tuple(sorted(pairs)[:NUM_KEPT])
    leak = Leak(
        kind="content", first=ENROLLED, second="test", num_shared=len(shared), num_images=len(pairs), pairs=shown
    )
    return leak if pairs else None


def enrolled_in(checkpoint: Checkpoint) -> tuple[tuple[str, str], ...]:
    """List the films that were enrolled after the training: name, and digest of the decoded pixels.

    Their rows are the last ones of each memory.
    """
    return tuple((name, digest) for name, digest in checkpoint.training.get("enrolled", ()))


def kinds_of_memory(checkpoint: Checkpoint, *, num_rows: int) -> dict[str, int]:
    """Count the normal images behind the memory of a checkpoint by kind.

    Training images are of the kind `OWN_KIND` where an older file does not tell, and enrolled ones of `ENROLLED`.

    Args:
        checkpoint: checkpoint of this program or a published one.
        num_rows: number of memory rows of normal images.
    """
    num_enrolled = len(enrolled_in(checkpoint))
    num_trained = num_rows // num_views_of(checkpoint) - num_enrolled
    kinds: dict[str, int] = checkpoint.training.get("kinds") or {OWN_KIND: num_trained}
    return {**kinds, **({ENROLLED: num_enrolled} if num_enrolled else {})}


def _read(config: Config, split: str) -> Split | None:
    """List the images of a split of DATA_PATH."""
    data = config.data
    return read_split(data.dataset_name, data.data_path, split, selection=data.selection)
