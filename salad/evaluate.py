"""Scores of a folder of images, and what they are worth."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from salad import ivf, losses, scoring
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.datasets import read_split
from salad.datasets.augment import to_network
from salad.datasets.loader import Loader
from salad.datasets.sample import NORMAL, Split
from salad.datasets.scan import write_skipped
from salad.device import choose_device, keep_freed_memory, seed_everything
from salad.distributed import SOLO, Team
from salad.errors import InputError
from salad.metrics import Auc, auc, by_study
from salad.prepare import check_same_for_all, compare_with_training, find_k, make_loader, scan_images, start_network
from salad.run_folder import RESULT_FILE, SCORES_FILE, RunFolder
from salad.search import nearest

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of a split, one an image.

    Attributes:
        split: the images.
        scores: larger is more anomalous, (N,).
        image_mean: mean grey level of each image before any normalisation, in [0, 255], (N,).
        image_std: its standard deviation, (N,).
        seconds: from the first image to the last score.
        k: nearest rows behind each score; None where it has no such rows.
        search: how they were found, for metrics.json.
    """

    split: Split
    scores: np.ndarray
    image_mean: np.ndarray
    image_std: np.ndarray
    seconds: float
    k: int | None = None
    search: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def aucs(self) -> dict[str, Auc | None]:
        """AUC of the score and, for comparison, of two grey-level statistics; None where a class is missing."""
        values = {"score": self.scores, "image mean": self.image_mean, "image std": self.image_std}
        found = {name: auc(self.split.labels, one) for name, one in values.items()}
        return found | ({"score by study": self.study_auc} if self.num_studies else {})

    @cached_property
    def num_studies(self) -> int:
        """How many studies the images come from; 0 where none is known to have several images."""
        known = [sample.study for sample in self.split.samples if sample.study is not None]
        return len(set(self._studies)) if len(set(known)) < len(known) else 0

    @property
    def _studies(self) -> list[str]:
        """The study of each image; one without is a study of its own, under a name that no study has."""
        return [sample.study or f"\n{sample.name}" for sample in self.split.samples]

    @property
    def study_auc(self) -> Auc | None:
        """AUC of whole studies, each scored with the mean of its images; None where a class is missing."""
        return auc(*by_study(self._studies, self.split.labels, self.scores))

    @property
    def auc(self) -> Auc | None:
        """AUC of the scores; None where a class is missing."""
        return self.aucs["score"]

    def as_json(self) -> dict[str, Any]:
        """What metrics.json says of the images."""
        found = {name: one and one.as_json() for name, one in self.aucs.items()}
        studies = {"study_auc": found["score by study"], "num_studies": self.num_studies} if self.num_studies else {}
        return {
            "auc": found["score"],
            **studies,
            "baseline_auc": {"image_mean": found["image mean"], "image_std": found["image std"]},
            "interval": "DeLong, 95 %",
            "k": self.k,
            **self.search,
            "num_normal": self.split.num_normal,
            "num_abnormal": len(self.split.samples) - self.split.num_normal,
            "num_skipped": len(self.split.skipped),
            "seconds": round(self.seconds, 2),
        }


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
    score: Callable[[Tensor, Network], Tensor],
    device: torch.device,
    *,
    team: Team = SOLO,
) -> Result:
    """Score every image of a split.

    Args:
        network: put into eval mode.
        split: the images.
        loader: over the same images, in their order.
        score: from a batch of images (B, 3, S, S) in [-1, 1] and the network to scores (B,).
        device: where the network lies.
        team: the processes that share the images; each gets the scores of all.

    Raises:
        InputError: a file cannot be read, or a score is not finite.
    """
    network.eval()
    start = time.perf_counter()
    parts = []
    for batch in tqdm(loader.epoch(0), total=len(loader), desc="score", leave=False, disable=None):
        deviation, mean = torch.std_mean(batch.grey.double(), dim=(1, 2, 3), correction=0)
        parts.append(torch.stack([score(_images(batch.normalized(device)), network).cpu().double(), mean, deviation]))
    scores, means, deviations = torch.cat(team.joined(parts), dim=1).numpy()
    if not np.isfinite(scores).all():
        raise InputError("a score is not a finite number: the weights of the model are damaged")
    return Result(
        split=split,
        scores=scores,
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
) -> Callable[[Tensor, Network], Tensor]:
    """A score by its option name, as a function of images (B, 3, S, S) and the network.

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
        return lambda images, network: losses.svdd_distances(network.encode(images), centre)
    if name == "reconstruction":
        return lambda images, network: _reconstruction_error(images, network, rec_loss)
    weighted = partial(scoring.weighted_prototype, temperature=temperature)
    of_rows: Callable[..., Tensor] = weighted if name == "weighted" else scoring.knn_angle
    return lambda images, network: of_rows(network.encode(images), rows, k=k, search=search)


def _images(grey: Tensor) -> Tensor:
    return to_network(grey / 255).contiguous(memory_format=torch.channels_last)


def _reconstruction_error(images: Tensor, network: Network, rec_loss: str) -> Tensor:
    recon: Tensor = network(images)[1]
    error = recon - images
    return (error.abs() if rec_loss == "l1" else error.square()).mean(dim=(1, 2, 3))


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
    loader = make_loader(config, split, device, team=team)
    logger.info("test: %s", split)
    result = score_split(network, split, loader, score, device, team=team)
    _warn_of_useless_scores(result, checkpoint, score_name=config.score)
    return dataclasses.replace(result, k=k or None, search=ivf.describe_search(search) if k else {})


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


def write_result(result: Result, folder: RunFolder, **facts: Any) -> None:
    """Write scores.csv (path, label, score), metrics.json and what was skipped into the run folder."""
    write_skipped(folder.path, result.split.skipped, scanned=("test",))
    with (folder.path / SCORES_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "score"])
        for sample, score in zip(result.split.samples, result.scores.tolist(), strict=True):
            writer.writerow([sample.name, sample.label, repr(score)])
    text = json.dumps({**result.as_json(), **facts}, indent=2)
    (folder.path / RESULT_FILE).write_text(text + "\n", encoding="utf-8")
