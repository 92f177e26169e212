"""Training and validation images: read, checked and described."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from salad.build import make_decoder, scan_images
from salad.checks.baselines import measure_baselines
from salad.checks.inspection import inspect_splits
from salad.checks.leaks import refuse_leaks
from salad.checks.screen import baseline_lines, fact_lines, warning_lines
from salad.config import Config
from salad.datasets import read_split
from salad.distributed.team import Team
from salad.errors import InputError
from salad.samples import Split

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


def read_training_data(config: Config) -> tuple[Split, Split | None]:
    """The images to train on, and those of val/ where it holds normal ones; test/ is never looked at.

    What they hold is logged. Every file is decoded once. What was skipped in either split stands in `skipped`
    of the first.

    Raises:
        InputError: train/ is not there or holds no normal image, a file cannot be read, an option asks for
            more than train/ holds, or with --strict, train/ and val/ share images or patients.
    """
    found = read_split(config.dataset_name, config.data_path, "train", selection=config.selection)
    assert found is not None, "only val may be absent"
    train = found if config.train_on == "all" else found.only_normal()
    if train.num_normal == 0:
        raise InputError(f"{config.data_path}: train/ holds no image of the normal class '{found.normal_class}'")
    selection = replace(config.selection, normal_class=train.normal_class)
    val = read_split(config.dataset_name, config.data_path, "val", selection=selection)
    _show_what_is_there(config, {"train": found, **({"val": val} if val else {})})
    checked = scan_images(config, {"train": train, **({"val": val} if val and val.num_normal else {})})
    skipped = tuple(one for split in checked.values() for one in split.skipped)
    num_left_out = len(found.samples) - len(train.samples)
    train = replace(checked["train"], skipped=skipped)
    if train.num_normal == 0:
        raise InputError(f"{config.data_path}: train/ holds no normal image that can be read; log.txt says why")
    check_sizes(config, train)
    logger.info("train: %s; %d abnormal images left out", train, num_left_out)
    val = checked.get("val", val)
    if val is None or not val.has_both_classes:
        logger.info("val: %s, so model.tar will be the last round", "absent" if val is None else "only one class")
        return train, val if val and val.num_normal else None
    logger.info("val: %s; the best AUC picks model.tar", val)
    baselines = measure_baselines(val, decoder=make_decoder(config), num_threads=config.n_jobs_dataloader)
    for line in baseline_lines(baselines) if baselines else ():
        logger.info("%s", line)
    return train, val


def _show_what_is_there(config: Config, splits: dict[str, Split]) -> None:
    """Log one screen about the splits.

    Raises:
        InputError: they share images or patients, which --strict forbids.
    """
    found = inspect_splits(splits, train_on=config.train_on, num_threads=config.n_jobs_dataloader)
    for line in fact_lines(found):
        logger.info("%s", line)
    for line in warning_lines(found):
        logger.warning("%s", line)
    if config.strict:
        refuse_leaks(found.leaks)


def check_sizes(config: Config, train: Split) -> None:
    """Raise `InputError` now for what would otherwise stop the run at its first round."""
    num_rows = len(train.samples) * config.n_views
    if config.num_rounds and config.ans_size >= num_rows:
        raise InputError(f"--ans_size is {config.ans_size}, but {num_rows} memory rows have {num_rows - 1} others each")


def check_enough(num_images: int, what: str, team: Team) -> None:
    """Raise `InputError` where there are fewer images than processes."""
    if num_images < team.size:
        raise InputError(
            f"{what} {num_images}, but torchrun started {team.size} processes, each of which needs an image of every "
            "batch: start fewer"
        )
