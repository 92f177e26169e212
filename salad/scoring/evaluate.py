"""Scores of a folder of images, and what they are worth."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from salad.build import check_same_for_all, make_loader, scan_images, start_network
from salad.checkpoint import Checkpoint
from salad.checks.leaks import compare_splits, refuse_leaks
from salad.config import Config
from salad.datasets import read_split
from salad.datasets.loader import Loader
from salad.device import choose_device, keep_freed_memory, seed_everything
from salad.distributed.team import SOLO, Team
from salad.errors import InputError
from salad.evaluation.calibration import Calibration, Standards, combine, no_standards
from salad.evaluation.result import Result
from salad.images.grey_levels import GreyLevels, measure_grey_levels
from salad.samples import NORMAL, Split
from salad.scoring.model import ModelScore, choose_rows_k, load_score
from salad.scoring.scores import Inputs, Score, to_images
from salad.scoring.training_images import find_row_labels, find_val

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


@torch.no_grad()
def embed(network: Network, loader: Loader, device: torch.device, *, team: Team = SOLO) -> Tensor:
    """Embeddings of all images of a loader, or of a team's loaders together, in eval mode: (N, D) on the device."""
    network.eval()
    parts = [network.encode(to_images(batch.normalized(device))) for batch in loader.epoch(0)]
    return torch.cat(parts if team.size == 1 else team.joined([z.cpu() for z in parts])).to(device)


def score_split(
    network: Network,
    split: Split,
    *,
    loader: Loader,
    parts: Mapping[str, Score],
    device: torch.device,
    standards: Standards | None = None,
    measures_standards: bool = False,
    keeps_z: bool = False,
    team: Team = SOLO,
) -> Result:
    """Score every image of a split.

    Args:
        network: put into eval mode.
        split: the images.
        loader: over the same images, in their order.
        parts: what to give each image: one score, or several that are fused, by name.
        device: where the network lies.
        standards: to fuse these with; None where there is one that is not.
        measures_standards: whether they are measured on the normal images of this split: for validation alone.
        keeps_z: whether embeddings are kept, which a score need not be made of.
        team: the processes that share the images; each gets the scores of all.

    Raises:
        InputError: a file cannot be read, a score is not finite, or there are too few normal images.
    """
    seen = _see(network, loader, parts=parts, device=device, keeps_z=keeps_z, team=team)
    if measures_standards:
        normal = np.asarray(split.labels) == NORMAL
        standards = Standards.measure({name: one[normal] for name, one in seen.scores.items()})
    return seen.as_result(split, standards)


class _Seen(NamedTuple):
    """What one pass over N images gives, in their order."""

    levels: GreyLevels
    scores: dict[str, np.ndarray]  # of each part, (N,)
    z: np.ndarray  # (N, D); (N, 0) where they are not kept
    seconds: float

    def as_result(self, split: Split, standards: Standards | None) -> Result:
        """With the scores fused, where there are standards."""
        return Result(
            split=split,
            scores=combine(self.scores, standards),
            z=self.z,
            image_mean=self.levels.mean,
            image_std=self.levels.std,
            image_sharpness=self.levels.sharpness,
            seconds=self.seconds,
            parts=self.scores if standards else {},
            standards=standards,
        )


@torch.no_grad()
def _see(
    network: Network,
    loader: Loader,
    *,
    parts: Mapping[str, Score],
    device: torch.device,
    keeps_z: bool,
    team: Team,
) -> _Seen:
    """The pass of `score_split`."""
    network.eval()
    start = time.perf_counter()
    values, embeddings = [], []
    for batch in tqdm(loader.epoch(0), total=len(loader), desc="score", leave=False, disable=None):
        inputs = Inputs(network, batch.grey.to(device, non_blocking=True), batch.preprocessing)
        levels = map(torch.from_numpy, measure_grey_levels(batch.grey[:, 0].numpy()))
        values.append(torch.stack([*levels, *(part(inputs).cpu().double() for part in parts.values())]))
        embeddings.append(inputs.z.cpu() if keeps_z else torch.empty(len(batch.grey), 0))
    mean, std, sharpness, *found = torch.cat(team.joined(values), dim=1).numpy()
    if not np.isfinite(found).all():
        raise InputError("a score is not a finite number: the weights of the model are damaged")
    scores = dict(zip(parts, found, strict=True))
    z = torch.cat(team.joined(embeddings)).numpy()
    return _Seen(GreyLevels(mean, std, sharpness), scores, z, time.perf_counter() - start)


def run_test(config: Config, checkpoint: Checkpoint, *, team: Team = SOLO) -> tuple[Result, ModelScore]:
    """Score the test folder with a checkpoint.

    Args:
        config: agrees with what the checkpoint knows.
        checkpoint: ours or a published one.
        team: the processes that share the images.

    Returns:
        What came out, and the score that it is of.

    Raises:
        InputError: the data, the checkpoint or an option is at fault.
    """
    device = choose_device(config.device, team=team)
    team.connect(device)
    seed_everything(config.seed, deterministic=config.deterministic)
    if device.type == "cpu":
        keep_freed_memory()
    network = start_network(config, checkpoint, device)
    split = read_test(config, checkpoint, team=team)
    rows = checkpoint.bank.rows[find_row_labels(config, checkpoint) == NORMAL].to(device)
    k = choose_rows_k(config, num_normal_rows=len(rows))
    with team.first_alone("images"):
        split = scan_images(config, {"test": split})["test"]
    check_same_for_all(split, team)
    score = load_score(config, checkpoint, network, rows=rows, k=k, team=team)
    if score.calibration is None or (config.is_fused and score.standards is None):
        normals = score_val_normals(config, score, mean_image=checkpoint.mean_image, device=device, team=team)
        score = calibrated(score, normals, is_fused=config.is_fused)
    logger.info("test: %s", split)
    result = score_split(
        network,
        split,
        loader=make_loader(config, split, device, mean_image=checkpoint.mean_image, team=team),
        parts=score.parts,
        device=device,
        standards=score.standards,
        keeps_z=checkpoint.embeds,
        team=team,
    )
    _warn_of_useless_scores(result, checkpoint, parts=config.parts)
    return dataclasses.replace(result, k=k or None, calibration=score.calibration), score


def calibrated(score: ModelScore, normals: Result | None, *, is_fused: bool) -> ModelScore:
    """A score with what validation normals tell of it; standards that it has stand.

    Args:
        score: of a checkpoint.
        normals: their scores; None without any.
        is_fused: whether it needs standards.

    Raises:
        InputError: it needs them, and has none.
    """
    standards = score.standards or (normals.standards if normals else None)
    if is_fused and standards is None:
        raise no_standards(0)
    calibration = Calibration.of(normals.scores) if normals else None
    return dataclasses.replace(score, calibration=calibration, standards=standards)


def read_test(config: Config, checkpoint: Checkpoint, *, team: Team = SOLO) -> Split:
    """The list of test images; what of it was trained on is warned of.

    Raises:
        InputError: it cannot be read, or another class is normal than in the training.
    """
    with team.first_alone("folder"):  # a phantom is drawn
        split = read_split(config.dataset_name, config.data_path, "test", selection=config.selection)
    assert split is not None, "only val may be absent"
    if split.normal_class != checkpoint.normal_class and checkpoint.normal_class in split.classes:
        raise InputError(
            f"--normal_class is {split.normal_class}, but {checkpoint.path} was trained with "
            f"{checkpoint.normal_class}: leave it out"
        )
    compare_with_training(config, split, train_on=(checkpoint.config or {}).get("train_on", "all"))
    return split


def score_val_normals(
    config: Config,
    score: ModelScore,
    *,
    mean_image: Tensor | None,
    device: torch.device,
    team: Team = SOLO,
) -> Result | None:
    """Scores of the normal images of val/; None without these.

    Args:
        config: of the scoring.
        score: of the test images.
        mean_image: of the checkpoint.
        device: to compute on.
        team: the processes that share the images.

    Raises:
        InputError: an image cannot be read, or there are too few to fuse the parts.
    """
    val = find_val(config)
    if val is None or val.num_normal == 0:
        logger.info("no threshold and no percentiles: they need normal images in val/")
        return None
    with team.first_alone("val"):
        val = scan_images(config, {"val": val.only_normal()})["val"]
    loader = make_loader(config, val, device, mean_image=mean_image, team=team)
    return score_split(
        score.network,
        val,
        loader=loader,
        parts=score.parts,
        device=device,
        measures_standards=config.is_fused,
        team=team,
    )


def _warn_of_useless_scores(result: Result, checkpoint: Checkpoint, *, parts: tuple[str, ...]) -> None:
    """Say what an AUC alone would hide; the sign of a score is never turned."""
    if len(result.scores) > 1 and np.ptp(result.scores) == 0:
        logger.warning("all %d scores are the same: the model tells nothing apart", len(result.scores))
    on_val: float | None = checkpoint.training.get("val_auc") if checkpoint.has_parts(parts) else None
    on_test = result.auc.value if result.auc else None
    for name, value in (("validation", on_val), ("test", on_test)):
        if value is not None and value < 0.5:
            logger.warning(
                "on the %s images the AUC is %.4f, below 0.5: abnormal images lie nearer the normal ones than "
                "other normal images do; the sign is left as it is",
                name,
                value,
            )


def compare_with_training(config: Config, test: Split, *, train_on: str) -> None:
    """Warn of images and patients of test/ that are in train/ or val/, where DATA_PATH holds these.

    Args:
        config: of the scoring.
        test: as it was listed.
        train_on: ``normal`` or ``all``, what the model was trained with.

    Raises:
        InputError: there are such, and --strict forbids them.
    """
    splits = {}
    selection = replace(config.selection, normal_class=test.normal_class)
    for name in ("train", "val"):
        try:
            split = read_split(config.dataset_name, config.data_path, name, selection=selection)
        except InputError as error:
            logger.debug("test/ is not compared with %s/: %s", name, error)
        else:
            splits.update({name: split} if split else {})
    found = compare_splits({**splits, "test": test}, train_on=train_on, num_threads=config.n_jobs_dataloader)
    leaks = [leak for leak in found.leaks if leak.second == "test"]
    for line in [*(f"leak: {leak}" for leak in leaks), *(f"doubt: {doubt}" for doubt in test.doubts)]:
        logger.warning("%s", line)
    if config.strict:
        refuse_leaks(leaks)
