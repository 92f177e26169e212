"""Scoring model, shared by test.py, validation, predict, `Detector`, heatmaps and export."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from salad.build import RunContext
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.errors import InputError
from salad.evaluation.calibration import Calibration, Standards, combine, no_standards
from salad.evaluation.few import few_to_calibrate
from salad.networks.anomaly_head import AnomalyHead
from salad.patch_memory import PatchMemory
from salad.samples import NORMAL
from salad.scores import SCORES
from salad.scores.inputs import Inputs, Normals
from salad.scores.knn import choose_k
from salad.scoring.cautions import cautions_of
from salad.scoring.films import calibration_of, normal_aspects, read_calibration
from salad.scoring.patch_memories import find_memories, has_settings, needed_backbone
from salad.scoring.training_images import find_row_labels, kinds_of_memory

if TYPE_CHECKING:
    from salad.evaluation.result import Result
    from salad.networks import Network

logger = logging.getLogger(__name__)


class BatchScores(NamedTuple):
    """Scores of a batch of B images.

    Attributes:
        parts: scores (B,) float64 of each part, by name.
        inputs: preprocessed images and network outputs of the batch.
    """

    parts: dict[str, np.ndarray]
    inputs: Inputs

    @property
    def params(self) -> np.ndarray | None:
        """Parameters that register the images, (B, 4), see `register`; None without registration."""
        params = self.inputs.params
        return None if params is None else params.cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class ScoringModel:
    """Network with its reference to normal images; computes scores.

    Attributes:
        context: options, device and processes of the scoring.
        network: trained network, on the device.
        normals: rows, patch memories and centre of normal images.
        head: anomaly head of the network, for its maps; None if it was not trained.
        normal_index: index of the normal rows in the memory bank, (M,).
        standards: mean and standard deviation of each part of a fused score; None for other scores, or if unknown.
        held_out: scores of normal images that were held out of the training, however few; None if unknown.
        cautions: warnings about the checkpoint, the memory and the score, see `cautions_of`.
        kinds: number of normal images behind the memory by kind, see `Sample.kind`.

    Raises:
        InputError: a score needs the centre of Deep SVDD, or --align the template, and there is none.
    """

    context: RunContext
    network: Network
    normals: Normals
    head: AnomalyHead | None = None
    normal_index: Tensor | None = None
    standards: Standards | None = None
    held_out: Calibration | None = None
    cautions: tuple[str, ...] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = self.context.preprocessing  # raises now rather than at the first image
        if self.normals.centre is None and any(SCORES[part].uses_centre for part in self.parts):
            raise InputError("--score svdd needs a model that was trained with --w_svdd above 0")

    @classmethod
    def load(cls, checkpoint: Checkpoint, context: RunContext) -> ScoringModel:
        """Make the scoring model of a checkpoint.

        Args:
            checkpoint: checkpoint of this program or a published one.
            context: context of the scoring; its options agree with the checkpoint (see `reconcile`).

        Raises:
            InputError: the checkpoint lacks a part of the network or a patch memory that the score needs.
        """
        config, device = context.config, context.device
        checkpoint.check_parts(config.scoring.parts)
        network = context.load_network(checkpoint)
        labels, unknown = find_row_labels(config, checkpoint)
        index = (labels == NORMAL).nonzero().flatten()
        rows = checkpoint.bank.rows
        rows = rows[index] if len(rows) else rows  # no rows without trained embeddings
        k = choose_rows_k(config, num_normal_rows=len(rows))
        backbone = needed_backbone(context, checkpoint)
        normals = Normals(
            rows=rows.to(device),
            k=k,
            temperature=checkpoint.bank.temperature,
            centre=checkpoint.svdd["centre"].to(device) if checkpoint.svdd else None,
            rec_loss=config.loss.rec_loss,
            memories=find_memories(context, checkpoint, network=network, backbone=backbone),
            backbone=backbone,
        )
        standards, held_out = _held(config, checkpoint) if is_known(config, checkpoint, k=k) else (None, None)
        return cls(
            context=context,
            network=network,
            normals=normals,
            head=load_head(checkpoint, network, device),
            normal_index=index,
            standards=standards,
            held_out=held_out,
            cautions=(*cautions_of(config, checkpoint, num_rows=len(index), k=k), *unknown),
            kinds=kinds_of_memory(checkpoint, num_rows=len(index)),
        )

    @property
    def config(self) -> Config:
        """Options of the scoring."""
        return self.context.config

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the score."""
        return self.config.scoring.parts

    @property
    def memories(self) -> Mapping[str, PatchMemory]:
        """Patch memories, by name of the score."""
        return self.normals.memories

    @property
    def calibration(self) -> Calibration | None:
        """Scores that percentiles and the threshold come from; None if there are fewer than --min_normals."""
        enough = self.held_out and len(self.held_out.scores) >= self.config.scoring.min_normals
        return self.held_out if enough else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt the scores, percentiles or predictions, one line each; every output shows them."""
        if self.held_out is None:
            return self.cautions
        scoring = self.config.scoring
        num_normals = len(self.held_out.scores)
        return (*self.cautions, *few_to_calibrate(num_normals, least=scoring.min_normals, is_fused=scoring.is_fused))

    def log_warnings(self) -> None:
        """Log the warnings."""
        for line in self.warnings:
            logger.warning("%s", line)

    @torch.no_grad()
    def score(self, grey: Tensor) -> BatchScores:
        """Score decoded images (B, 1, S0, S0), uint8, on any device."""
        inputs = Inputs(self.network, grey.to(self.context.device, non_blocking=True), self.context.preprocessing)
        scores = {part: SCORES[part].load()(inputs, self.normals) for part in self.parts}
        return BatchScores({part: values.cpu().double().numpy() for part, values in scores.items()}, inputs)

    def combine(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Fuse the parts of a score, (N,) each, or return the only part.

        Raises:
            InputError: a score is not finite.
        """
        if not all(np.isfinite(scores).all() for scores in parts.values()):
            raise InputError("a score is not a finite number: the weights of the model are damaged")
        return combine(parts, self.standards)

    def standardized(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Standardise the parts of a fused score, (N,) each; those of other scores are returned as they are."""
        return dict(parts) if self.standards is None else self.standards.standardize(parts)

    def calibrated(self, normals: Result | None) -> ScoringModel:
        """Copy the model with the calibration and, if it has none, the standards of normal validation images.

        Args:
            normals: scores of the normal images of val/ alone; None if there are none.

        Raises:
            InputError: the score is fused, and its parts have no standards.
        """
        standards = self.standards or (normals.standards if normals else None)
        if self.config.scoring.is_fused and standards is None:
            raise no_standards(0)
        held_out = None
        if normals is not None:
            held_out = calibration_of(normals, normal_aspects(normals.split, self.config))
        return dataclasses.replace(self, held_out=held_out, standards=standards)


def load_head(checkpoint: Checkpoint, network: Network, device: torch.device) -> AnomalyHead | None:
    """Load the anomaly head of a checkpoint; None without one.

    Raises:
        InputError: it does not fit the network.
    """
    state = checkpoint.training.get("head")
    if state is None:
        return None
    head, num_channels = AnomalyHead(network.num_patch_channels), state["image.weight"].shape[1]
    if num_channels != network.num_patch_channels:
        what = f"an anomaly head for {num_channels} channels, but the network has {network.num_patch_channels}"
        raise InputError(f"{checkpoint.path}: holds {what}")
    head.load_state_dict(state)
    return head.to(device).eval()


def _held(config: Config, checkpoint: Checkpoint) -> tuple[Standards | None, Calibration | None]:
    """Read standards and calibration from a checkpoint; None for each that is missing."""
    standards, scoring = checkpoint.training.get("standards"), config.scoring
    return (
        Standards({part: tuple(standards[part]) for part in scoring.parts}) if standards and scoring.is_fused else None,
        read_calibration(checkpoint.training),
    )


def is_known(config: Config, checkpoint: Checkpoint, *, k: int) -> bool:
    """Check if standards and calibration in a checkpoint belong to this score, with this k and these settings."""
    parts = config.scoring.parts
    return (
        checkpoint.has_parts(parts)
        and k == checkpoint.training.get("k")
        and all(has_settings(part, config, checkpoint) for part in parts)
    )


def choose_rows_k(config: Config, *, num_normal_rows: int) -> int:
    """Choose k, or 0 if no score uses memory rows.

    Raises:
        InputError: --k exceeds the number of memory rows of normal images, or there are no such rows.
    """
    if not any(SCORES[part].uses_rows for part in config.scoring.parts):
        return 0
    if num_normal_rows == 0:
        raise InputError("the memory holds no row of a normal image to compare with")
    return choose_k(config.scoring.k, num_rows=num_normal_rows)
