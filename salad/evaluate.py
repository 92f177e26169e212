"""Scores of a folder of images, and what they are worth."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from salad import ivf, losses, scoring
from salad.calibration import Calibration
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.datasets import read_split
from salad.datasets.augment import to_network
from salad.datasets.loader import Loader
from salad.datasets.sample import NORMAL, Split
from salad.device import choose_device, keep_freed_memory, seed_everything
from salad.distributed import SOLO, Team
from salad.errors import InputError
from salad.prepare import check_same_for_all, compare_with_training, find_k, make_loader, scan_images, start_network
from salad.result import Result
from salad.search import nearest

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)

Score = Callable[[Tensor, "Network"], tuple[Tensor, Tensor]]
"""From images (B, 3, S, S) in [-1, 1] and the network to scores (B,) and embeddings (B, D)."""


@torch.no_grad()
def embed(network: Network, loader: Loader, device: torch.device, *, team: Team = SOLO) -> Tensor:
    """Embeddings of all images of a loader, or of a team's loaders together, in eval mode: (N, D) on the device."""
    network.eval()
    parts = [network.encode(_images(batch.normalized(device))) for batch in loader.epoch(0)]
    return torch.cat(parts if team.size == 1 else team.joined([z.cpu() for z in parts])).to(device)


@torch.no_grad()
def score_split(
    network: Network,
    split: Split,
    loader: Loader,
    score: Score,
    device: torch.device,
    *,
    team: Team = SOLO,
) -> Result:
    """Score every image of a split.

    Args:
        network: put into eval mode.
        split: the images.
        loader: over the same images, in their order.
        score: what to give each image.
        device: where the network lies.
        team: the processes that share the images; each gets the scores of all.

    Raises:
        InputError: a file cannot be read, or a score is not finite.
    """
    network.eval()
    start = time.perf_counter()
    parts, embeddings = [], []
    for batch in tqdm(loader.epoch(0), total=len(loader), desc="score", leave=False, disable=None):
        deviation, mean = torch.std_mean(batch.grey.double(), dim=(1, 2, 3), correction=0)
        scores_of_batch, z = score(_images(batch.normalized(device)), network)
        parts.append(torch.stack([scores_of_batch.cpu().double(), mean, deviation]))
        embeddings.append(z.cpu())
    scores, means, deviations = torch.cat(team.joined(parts), dim=1).numpy()
    if not np.isfinite(scores).all():
        raise InputError("a score is not a finite number: the weights of the model are damaged")
    return Result(
        split=split,
        scores=scores,
        z=torch.cat(team.joined(embeddings)).numpy(),
        image_mean=means,
        image_std=deviations,
        seconds=time.perf_counter() - start,
    )


def choose_score(
    name: str,
    *,
    rows: Tensor,
    k: int,
    temperature: float,
    centre: Tensor | None = None,
    rec_loss: str = "l1",
    search: scoring.Search = nearest,
) -> Score:
    """A score by its option name.

    Args:
        name: ``knn``, ``weighted``, ``svdd`` or ``reconstruction``.
        rows: memory rows of normal images, (N, D).
        k: nearest rows.
        temperature: of the weights of ``weighted``.
        centre: of Deep SVDD, (D,).
        rec_loss: ``l1`` or ``mse``, the error of ``reconstruction``.
        search: finds the nearest rows.

    Raises:
        InputError: ``svdd`` has no centre.
    """
    if name == "svdd":
        if centre is None:
            raise InputError("--score svdd needs a model that was trained with --w_svdd above 0")
        return _of_embedding(lambda z: losses.svdd_distances(z, centre))
    if name == "reconstruction":
        return lambda images, network: _reconstruction_error(images, network, rec_loss)
    weighted = partial(scoring.weighted_prototype, temperature=temperature)
    of_rows: Callable[..., Tensor] = weighted if name == "weighted" else scoring.knn_angle
    return _of_embedding(lambda z: of_rows(z, rows, k=k, search=search))


def _of_embedding(score: Callable[[Tensor], Tensor]) -> Score:
    def score_images(images: Tensor, network: Network) -> tuple[Tensor, Tensor]:
        z = network.encode(images)
        return score(z), z

    return score_images


def _images(grey: Tensor) -> Tensor:
    return to_network(grey / 255).contiguous(memory_format=torch.channels_last)


def _reconstruction_error(images: Tensor, network: Network, rec_loss: str) -> tuple[Tensor, Tensor]:
    z, recon = network(images)
    error = recon - images
    return (error.abs() if rec_loss == "l1" else error.square()).mean(dim=(1, 2, 3)), z


def run_test(config: Config, checkpoint: Checkpoint, *, team: Team = SOLO) -> Result:
    """Score the test folder with a checkpoint.

    Args:
        config: agrees with what the checkpoint knows.
        checkpoint: ours or a published one.
        team: the processes that share the images.

    Raises:
        InputError: the data, the checkpoint or an option is at fault.
    """
    device = choose_device(config.device, team=team)
    team.connect(device)
    seed_everything(config.seed, deterministic=config.deterministic)
    if device.type == "cpu":
        keep_freed_memory()
    network = start_network(config, checkpoint, device)
    with team.first_alone("folder"):  # a phantom is drawn
        split = read_split(config.dataset_name, config.data_path, "test", selection=config.selection)
    assert split is not None, "only val may be absent"
    if split.normal_class != checkpoint.normal_class and checkpoint.normal_class in split.classes:
        raise InputError(
            f"--normal_class is {split.normal_class}, but {checkpoint.path} was trained with "
            f"{checkpoint.normal_class}: leave it out"
        )
    compare_with_training(config, split, train_on=(checkpoint.config or {}).get("train_on", "all"))
    rows = checkpoint.bank.rows[find_row_labels(config, checkpoint) == NORMAL].to(device)
    k = find_k(config, num_normal_rows=len(rows)) if config.score in scoring.NEEDS_ROWS else 0
    how = config.knn if k else "exact"
    search = ivf.choose_search(how, rows, k=k, num_queries=len(split.samples), seed=config.seed)
    score = choose_score(
        config.score,
        rows=rows,
        k=k,
        temperature=checkpoint.bank.temperature,
        centre=checkpoint.svdd["centre"].to(device) if checkpoint.svdd else None,
        rec_loss=config.rec_loss,
        search=search,
    )
    with team.first_alone("images"):
        split = scan_images(config, {"test": split})["test"]
    check_same_for_all(split, team)
    loader = make_loader(config, split, device, mean_image=checkpoint.mean_image, team=team)
    logger.info("test: %s", split)
    result = score_split(network, split, loader, score, device, team=team)
    _warn_of_useless_scores(result, checkpoint, score_name=config.score)
    found = ivf.describe_search(search) if k else {}
    calibration = calibrate(config, checkpoint, network, score, k=k, device=device, team=team)
    return dataclasses.replace(result, k=k or None, search=found, calibration=calibration)


def calibrate(
    config: Config,
    checkpoint: Checkpoint,
    network: Network,
    score: Score,
    *,
    k: int,
    device: torch.device,
    team: Team = SOLO,
) -> Calibration | None:
    """Scores of validation normals: those that the checkpoint holds, else of val/; None without either.

    Args:
        config: of the scoring.
        checkpoint: what it scores with.
        network: on the device.
        score: of the test images.
        k: nearest rows of the score, 0 without.
        device: to compute on.
        team: the processes that share the images.
    """
    held = held_calibration(config, checkpoint, k=k)
    if held is not None:
        return held
    try:
        val = read_split(config.dataset_name, config.data_path, "val", selection=config.selection)
    except InputError as error:
        logger.debug("val/ cannot be used: %s", error)
        val = None
    if val is None or val.num_normal == 0:
        logger.info("no threshold and no percentiles: they need normal images in val/")
        return None
    with team.first_alone("val"):
        val = scan_images(config, {"val": val.only_normal()})["val"]
    loader = make_loader(config, val, device, mean_image=checkpoint.mean_image, team=team)
    return Calibration.of(score_split(network, val, loader, score, device, team=team).scores)


def held_calibration(config: Config, checkpoint: Checkpoint, *, k: int) -> Calibration | None:
    """The scores of validation normals in the checkpoint; None where there are none of this score with this k."""
    training = checkpoint.training
    held = training.get("val_normal_scores")
    if held is None or not len(held) or (config.score, k) != (training.get("score", "knn"), training.get("k")):
        return None
    return Calibration.of(held.numpy())


def _warn_of_useless_scores(result: Result, checkpoint: Checkpoint, *, score_name: str) -> None:
    """Say what an AUC alone would hide; the sign of a score is never turned."""
    if len(result.scores) > 1 and np.ptp(result.scores) == 0:
        logger.warning("all %d scores are the same: the model tells nothing apart", len(result.scores))
    on_val: float | None = checkpoint.training.get("val_auc") if score_name == "knn" else None  # val/ is scored by kNN
    on_test = result.auc.value if result.auc else None
    for name, value in (("validation", on_val), ("test", on_test)):
        if value is not None and value < 0.5:
            logger.warning(
                "on the %s images the AUC is %.4f, below 0.5: abnormal images lie nearer the normal ones than "
                "other normal images do; the sign is left as it is",
                name,
                value,
            )


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
