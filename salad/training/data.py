"""Training and validation images: read, checked and described."""

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
    """Read the images to train on, and those of val/ where it holds normal ones; test/ is never looked at.

    Facts about them are logged. Every file is decoded once. Files of either split that were left out stand in
    `skipped` of the first.

    Raises:
        InputError: train/ is not there or holds no normal image, a file cannot be read, an option asks for
            more than train/ holds, or with --strict, train/ and val/ share images or patients.
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
    train = replace(checked["train"], skipped=tuple(one for split in checked.values() for one in split.skipped))
    if train.num_normal == 0:
        raise InputError(f"{data.data_path}: train/ holds no normal image that can be read; log.txt says why")
    check_sizes(config, train)
    num_left_out = len(listed.samples) - len(train.samples)
    logger.info("train: %s; %d abnormal images left out", train, num_left_out)
    val = checked.get("val", val)
    if val is None or not val.has_both_classes:
        logger.info("val: %s, so model.tar will be the last round", "absent" if val is None else "only one class")
        return train, val if val and val.num_normal else None
    logger.info("val: %s; the best AUC picks model.tar", val)
    baselines = measure_baselines(val, decoder=context.decoder, num_threads=data.n_jobs_dataloader)
    for line in baseline_lines(baselines) if baselines else ():
        logger.info("%s", line)
    return train, val


def _log_facts(config: Config, splits: dict[str, Split]) -> None:
    """Log one screen about the splits.

    Raises:
        InputError: they share images or patients, which --strict forbids.
    """
    found = inspect_splits(splits, train_on=config.data.train_on, num_threads=config.data.n_jobs_dataloader)
    for line in fact_lines(found):
        logger.info("%s", line)
    for line in warning_lines(found):
        logger.warning("%s", line)
    if config.data.strict:
        refuse_leaks(found.leaks)


def check_sizes(config: Config, train: Split) -> None:
    """Raise `InputError` now for what would otherwise stop the run at its first round."""
    num_rows = len(train.samples) * config.images.n_views
    if config.num_rounds and config.memory.ans_size >= num_rows:
        raise InputError(
            f"--ans_size is {config.memory.ans_size}, but {num_rows} memory rows have {num_rows - 1} others each"
        )


def check_enough(num_images: int, what: str, team: Team) -> None:
    """Raise `InputError` where there are fewer images than processes."""
    if num_images < team.size:
        raise InputError(
            f"{what} {num_images}, but torchrun started {team.size} processes, each of which needs an image of every "
            "batch: start fewer"
        )
