"""Scores of a split of images, and the test of a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from salad.build import RunContext, open_context
from salad.checkpoint import Checkpoint
from salad.checks.leaks import compare_splits, refuse_leaks
from salad.config import Config
from salad.datasets import DATASETS, read_split
from salad.datasets.folders import doubt_of_first
from salad.datasets.loader import Loader
from salad.datasets.more_normals import MORE, describe_kinds, read_more_normals
from salad.distributed.team import SOLO, Team
from salad.errors import InputError
from salad.evaluation.calibration import Standards
from salad.evaluation.few import few_for_auc, not_measured
from salad.evaluation.result import Result
from salad.images.grey_levels import GreyLevels, measure_grey_levels
from salad.samples import NORMAL, Split
from salad.scores.inputs import to_images
from salad.scoring.films import drift_of, normal_aspects
from salad.scoring.model import ScoringModel
from salad.scoring.training_images import as_trained, find_enrolled, find_val

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


@torch.no_grad()
def embed(network: Network, loader: Loader, device: torch.device, *, team: Team = SOLO) -> Tensor:
    """Compute the embeddings of all images of a loader, over all processes, in eval mode: (N, D) on the device."""
    network.eval()
    parts = [network.encode(to_images(batch.normalized(device))) for batch in loader.epoch(0)]
    return torch.cat(parts if team.size == 1 else team.joined([z.cpu() for z in parts])).to(device)


def score_split(
    model: ScoringModel, split: Split, *, measures_standards: bool = False, keeps_z: bool = False
) -> Result:
    """Score every image of a split.

    Args:
        model: model to score with; its network is put into eval mode. Its processes share the images, and each process
            gets all scores.
        split: images to score, scanned.
        measures_standards: True to standardise the parts of a fused score by the normal images of this split, for
            validation only.
        keeps_z: True to keep embeddings even if no score uses them.

    Raises:
        InputError: a file cannot be read, a score is not finite, or there are too few normal images.
    """
    model.network.eval()
    seen = _pass_over(model, model.context.loader(split), keeps_z=keeps_z)
    if measures_standards:
        normal = np.asarray(split.labels) == NORMAL
        standards = Standards.measure({name: scores[normal] for name, scores in seen.scores.items()})
        model = dataclasses.replace(model, standards=standards)
    return Result(
        split=split,
        scores=model.combine(seen.scores),
        z=seen.z,
        image_mean=seen.levels.mean,
        image_std=seen.levels.std,
        image_sharpness=seen.levels.sharpness,
        params=seen.params,
        seconds=seen.seconds,
        parts=seen.scores if model.standards else {},
        standards=model.standards,
    )


class _Seen(NamedTuple):
    """Grey levels, scores and embeddings of N images, in their order, from one pass."""

    levels: GreyLevels
    params: np.ndarray | None  # registration, (N, 4)
    scores: dict[str, np.ndarray]  # of each part, (N,)
    z: np.ndarray  # (N, D); (N, 0) if they are not kept
    seconds: float


@torch.no_grad()
def _pass_over(model: ScoringModel, loader: Loader, *, keeps_z: bool) -> _Seen:
    """Score a split in one pass, for `score_split`."""
    team, start = model.context.team, time.perf_counter()
    values, embeddings = [], []
    for batch in tqdm(loader.epoch(0), total=len(loader), desc="score", leave=False, disable=None):
        scored = model.score(batch.grey)
        levels = measure_grey_levels(batch.grey[:, 0].numpy())
        registered = () if scored.params is None else scored.params.T
        values.append(torch.from_numpy(np.stack([*levels, *scored.parts.values(), *registered])))
        embeddings.append(scored.inputs.z.cpu() if keeps_z else torch.empty(len(batch.grey), 0))
    mean, std, sharpness, *rows = torch.cat(team.joined(values), dim=1).numpy()
    scores = dict(zip(model.parts, rows, strict=False))
    params = np.stack(rows[len(scores) :], axis=1) if len(rows) > len(scores) else None
    z = torch.cat(team.joined(embeddings)).numpy()
    return _Seen(GreyLevels(mean, std, sharpness), params, scores, z, time.perf_counter() - start)


def open_test(config: Config, checkpoint: Checkpoint, *, team: Team = SOLO) -> tuple[RunContext, Split]:
    """List the images to test a checkpoint with, before anything is decoded or scored.

    Args:
        config: options of the test, after `reconcile` with the checkpoint.
        checkpoint: checkpoint of this program or a published one.
        team: processes that share the images.

    Raises:
        InputError: the data or an option is wrong.
    """
    context = open_context(config, team=team, template=checkpoint.template)
    return context, read_test(context, checkpoint)


def run_test(context: RunContext, checkpoint: Checkpoint, split: Split) -> tuple[Result, ScoringModel]:
    """Score test images with a checkpoint.

    Args:
        context: context of the test, of `open_test`.
        checkpoint: checkpoint of this program or a published one.
        split: images of `open_test`.

    Returns:
        Result of the test, and the model that computed it.

    Raises:
        InputError: a file, the checkpoint or an option is wrong.
    """
    config, team = context.config, context.team
    with team.first_alone("images"):
        split = context.scan({"test": split})["test"]
    context.check_same_for_all(split)
    if leak := find_enrolled(checkpoint, split):
        logger.warning("leak: %s", leak)
        if config.data.strict:
            refuse_leaks([leak])
    model = ScoringModel.load(checkpoint, context)
    if model.held_out is None or (config.scoring.is_fused and model.standards is None):
        model = model.calibrated(score_val_normals(model))
    logger.info("test: %s", split)
    if len(model.kinds) > 1:
        logger.info("normal images of the memory: %s", describe_kinds(model.kinds))
    result = score_split(model, split, keeps_z=checkpoint.embeds)
    _warn_of_useless_scores(result, checkpoint, parts=config.scoring.parts)
    num_abnormal = len(split.samples) - split.num_normal
    drift = drift_of(result, model.held_out, normal_aspects(split, config))
    warnings = (
        *model.warnings,
        *few_for_auc("test", num_normal=split.num_normal, num_abnormal=num_abnormal),
        *not_measured(num_normal=split.num_normal, num_abnormal=num_abnormal, has_threshold=bool(model.calibration)),
        *(f"drift: {line}" for line in drift.lines if drift.is_found),
    )
    for line in warnings:
        logger.warning("%s", line)
    result = dataclasses.replace(result, k=model.normals.k or None, calibration=model.calibration, warnings=warnings)
    return dataclasses.replace(result, drift=drift), model


def read_test(context: RunContext, checkpoint: Checkpoint) -> Split:
    """List the test images, and warn of those that are also in train/ or val/.

    Raises:
        InputError: the images cannot be listed, or the normal class is not that of the training.
    """
    data = context.config.data
    with context.team.first_alone("folder"):  # CXR_phantom draws its images
        split = read_split(data.dataset_name, data.data_path, "test", selection=data.selection)
    assert split is not None, "only val may be absent"
    if split.normal_class != checkpoint.normal_class and checkpoint.normal_class in split.classes:
        raise InputError(
            f"--normal_class is {split.normal_class}, but {checkpoint.path} was trained with "
            f"{checkpoint.normal_class}: leave it out"
        )
    trained_with = checkpoint.config or {}
    entry = DATASETS.get(str(trained_with.get("dataset_name")))
    if entry and entry.by_order and trained_with.get("normal_class") is None and checkpoint.normal_class:
        doubt = doubt_of_first(checkpoint.normal_class)
        split = dataclasses.replace(split, doubts=(*split.doubts, *([f"train/: {doubt}"] if doubt else [])))
    compare_with_training(as_trained(context.config, checkpoint), split, train_on=trained_with.get("train_on", "all"))
    return split


def score_val_normals(model: ScoringModel) -> Result | None:
    """Score the normal images of val/; None if there are none.

    Raises:
        InputError: an image cannot be read, or there are too few images to standardise the parts of a fused score.
    """
    context = model.context
    val = find_val(context.config)
    if val is None or val.num_normal == 0:
        logger.info("no threshold and no percentiles: both need normal images in val/")
        return None
    with context.team.first_alone("val"):
        val = context.scan({"val": val.only_normal()})["val"]
    return score_split(model, val, measures_standards=context.config.scoring.is_fused)


def _warn_of_useless_scores(result: Result, checkpoint: Checkpoint, *, parts: tuple[str, ...]) -> None:
    """Warn of equal scores and of AUCs below 0.5; the sign of a score is never changed."""
    if len(result.scores) > 1 and np.ptp(result.scores) == 0:
        logger.warning("all %d scores are the same: the model does not separate any images", len(result.scores))
    on_val: float | None = checkpoint.training.get("val_auc") if checkpoint.has_parts(parts) else None
    on_test = result.auc.value if result.auc else None
    for name, value in (("validation", on_val), ("test", on_test)):
        if value is not None and value < 0.5:
            logger.warning(
                "on the %s images the AUC is %.4f, below 0.5: abnormal images score lower than normal ones; the sign "
                "of the score is not changed",
                name,
                value,
            )


def compare_with_training(config: Config, test: Split, *, train_on: str) -> None:
    """Warn of leaks: images and patients of test/ that are also in train/ or val/ of DATA_PATH.

    Args:
        config: options of the scoring.
        test: test split, as listed.
        train_on: ``normal`` or ``all``, the option of the training.

    Raises:
        InputError: there is a leak, and --strict is on.
    """
    splits = {}
    selection = dataclasses.replace(config.data.selection, normal_class=test.normal_class)
    for name in ("train", "val"):
        try:
            split = read_split(config.data.dataset_name, config.data.data_path, name, selection=selection)
        except InputError as error:
            logger.debug("test/ is not compared with %s/: %s", name, error)
        else:
            splits.update({name: split} if split else {})
    with contextlib.suppress(InputError):  # else only the training images lack, which is said where they are needed
        more = read_more_normals(config.data.more_normals or ())
        splits |= {MORE: dataclasses.replace(test, samples=more)} if more else {}
    comparison = compare_splits({**splits, "test": test}, train_on=train_on, num_threads=config.data.n_jobs_dataloader)
    leaks = [leak for leak in comparison.leaks if leak.second == "test"]
    for line in [*(f"leak: {leak}" for leak in leaks), *(f"doubt: {doubt}" for doubt in test.doubts)]:
        logger.warning("%s", line)
    if config.data.strict:
        refuse_leaks(leaks)
