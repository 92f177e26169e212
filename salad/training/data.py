"""Training and validation images: list, check, decode and describe them."""

from __future__ import annotations

import logging
from dataclasses import replace

from salad.build import RunContext
from salad.checks.baselines import measure_baselines
from salad.checks.inspection import inspect_splits
from salad.checks.leaks import refuse_leaks
from salad.checks.screen import baseline_lines, fact_lines, warning_lines
from salad.config import Config
from salad.datasets import read_split
from salad.distributed.team import Team
from salad.errors import InputError
from salad.samples import Split

logger = logging.getLogger(__name__)


def read_training_data(context: RunContext) -> tuple[Split, Split | None]:
    """Read the images to train on and, if val/ holds normal images, those of val/; never read test/.

    Facts about the images are logged, and every file is decoded once.

    Args:
        context: context of the run.

    Returns:
        The training split, with the unreadable files of both splits in `skipped`, and the validation split or None.

    Raises:
        InputError: train/ is missing or holds no normal image, a file cannot be read, --ans_size is too large for
            train/, or, with --strict, train/ and val/ share images or patients.
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
    checked = context.scan({"train": train, **({"val": val} if val and val.num_normal else {})})
    train = replace(checked["train"], skipped=tuple(sample for split in checked.values() for sample in split.skipped))
    if train.num_normal == 0:
        raise InputError(f"{data.data_path}: train/ holds no normal image that can be read; log.txt says why")
    check_sizes(config, train)
    num_left_out = len(listed.samples) - len(train.samples)
    logger.info("train: %s; %d abnormal images left out", train, num_left_out)
    val = checked.get("val", val)
    if val is None or not val.has_both_classes:
        logger.info(
            "val: %s, so model.tar will be the model of the last epoch", "absent" if val is None else "only one class"
        )
        return train, val if val and val.num_normal else None
    logger.info("val: %s; model.tar will be the model with the best AUC", val)
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
