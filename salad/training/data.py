"""Training and validation images: list, check, decode and describe them."""

from __future__ import annotations

import logging
from dataclasses import replace

from salad.build import RunContext
from salad.checks.baselines import measure_baselines
from salad.checks.inspection import inspect_splits
from salad.checks.leaks import refuse_leaks
from salad.checks.more_normals import find_more_normals
from salad.checks.screen import baseline_lines, fact_lines, warning_lines
from salad.config import Config
from salad.datasets import read_split
from salad.datasets.more_normals import describe_kinds
from salad.distributed.team import Team
from salad.errors import InputError
from salad.samples import Split

logger = logging.getLogger(__name__)


def read_training_data(context: RunContext) -> tuple[Split, Split | None]:
    """Read the images to train on and, if val/ holds normal images, those of val/; never read test/.

    The normal images of --more_normals follow those of train/. Facts about the images are logged, and every file is
    decoded once.

    Args:
        context: context of the run.

    Returns:
        The training split, with the unreadable files of both splits in `skipped`, and the validation split or None.

    Raises:
        InputError: train/ is missing or holds no normal image, a file cannot be read, --ans_size is too large for
            train/, a folder of --more_normals cannot be used, or, with --strict, images to train on and val/ share
            images or patients.
    """
    config, data = context.config, context.config.data
    listed = read_split(data.dataset_name, data.data_path, "train", selection=data.selection)
    assert listed is not None, "only val may be absent"
    train = listed if data.train_on == "all" else listed.only_normal()
    if train.num_normal == 0:
        raise InputError(f"{data.data_path}: train/ holds no image of the normal class '{listed.normal_class}'")
    selection = replace(data.selection, normal_class=train.normal_class)
    val = read_split(data.dataset_name, data.data_path, "val", selection=selection)
    _log_facts(config, {"train": listed, **({"val": val} if val else {})})
    train = _with_more(config, train, listed=listed, val=val) if data.more_normals else train
    checked = context.scan({"train": train, **({"val": val} if val and val.num_normal else {})})
    train = replace(checked["train"], skipped=tuple(sample for split in checked.values() for sample in split.skipped))
    if train.num_normal == 0:
        raise InputError(f"{data.data_path}: train/ holds no normal image that can be read; log.txt says why")
    check_sizes(config, train)
    _say_train(train, num_left_out=0 if data.train_on == "all" else len(listed.samples) - listed.num_normal)
    val = checked.get("val", val)
    if val is None or not val.has_both_classes:
        reason = "there is no val/" if val is None else "val/ has only one class"
        logger.info("model.tar: the model of the last epoch, because %s", reason)
        return train, val if val and val.num_normal else None
    logger.info("model.tar: the model with the best AUC on val: %s", val)
    baselines = measure_baselines(val, decoder=context.decoder, num_threads=data.n_jobs_dataloader)
    for line in baseline_lines(baselines) if baselines else ():
        logger.info("%s", line)
    return train, val


def _log_facts(config: Config, splits: dict[str, Split]) -> None:
    """Log facts and warnings about the splits.

    Raises:
        InputError: with --strict, the splits share images or patients.
    """
    inspection = inspect_splits(splits, train_on=config.data.train_on, num_threads=config.data.n_jobs_dataloader)
    for line in fact_lines(inspection):
        logger.info("%s", line)
    for line in warning_lines(inspection):
        logger.warning("%s", line)
    if config.data.strict:
        refuse_leaks(inspection.leaks)


def _say_train(train: Split, *, num_left_out: int) -> None:
    """Log the images to train on, and what share of the memory each kind of normal ones makes."""
    left_out = f"; {num_left_out:,} abnormal images left out" if num_left_out else ""
    logger.info("to train on: %s%s", train, left_out)
    if len(train.kinds) > 1:
        logger.info("normal images of the memory: %s", describe_kinds(train.kinds))


def _with_more(config: Config, train: Split, *, listed: Split, val: Split | None) -> Split:
    """Add the images of --more_normals, and log facts and warnings about them.

    Args:
        config: options of the run.
        train: images of train/ to train on.
        listed: all images of train/.
        val: images of val/, or None.

    Raises:
        InputError: they cannot be listed, or, with --strict, val/ shares images or patients with them.
    """
    more = find_more_normals(config.data, train=listed, val=val)
    logger.info("more normals: %s", more)
    for line in [*(f"leak: {leak}" for leak in more.leaks), *(f"doubt: {doubt}" for doubt in more.doubts)]:
        logger.warning("%s", line)
    if config.data.strict:
        refuse_leaks(more.leaks)
    return replace(train, samples=[*train.samples, *more.samples])


def check_sizes(config: Config, train: Split) -> None:
    """Raise `InputError` if there are too few memory rows for --ans_size, which would stop the run in round 1."""
    num_rows = len(train.samples) * config.images.n_views
    if config.num_rounds and config.memory.ans_size >= num_rows:
        raise InputError(
            f"--ans_size is {config.memory.ans_size}, but {num_rows} memory rows have {num_rows - 1} others each"
        )


def check_enough(num_images: int, what: str, team: Team) -> None:
    """Raise `InputError` if there are fewer images than processes.

    Args:
        num_images: number of images.
        what: subject of the message, for example "--batch_size is".
        team: processes of the run.
    """
    if num_images < team.size:
        raise InputError(
            f"{what} {num_images}, but torchrun started {team.size} processes, each of which needs an image of every "
            "batch: start fewer"
        )
