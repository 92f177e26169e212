"""The score of a checkpoint: the parts that it is made of, and what it knows of them from validation normals."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.distributed.team import SOLO, Team
from salad.errors import InputError
from salad.evaluation.calibration import Calibration, Standards
from salad.networks.backbones import Backbone
from salad.patch_memory import LocalMemory
from salad.scoring import knn
from salad.scoring.knn import DEFAULT_K, choose_k
from salad.scoring.patch_memories import find_memories, has_settings, needed_backbone
from salad.scoring.scores import Score, choose_score

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelScore:
    """What `load_score` gives.

    Attributes:
        network: with the weights of the checkpoint, on the device.
        parts: the score by its name or, where it is fused, those that it is made of.
        memories: of local features, which the parts look into.
        backbone: that the parts look through.
        standards: of the parts of a fused score; None where the checkpoint does not hold them.
        calibration: the scores of validation normals; None where the checkpoint does not hold them.
    """

    network: Network
    parts: dict[str, Score]
    memories: dict[str, LocalMemory]
    backbone: Backbone | None
    standards: Standards | None
    calibration: Calibration | None


def load_score(
    config: Config,
    checkpoint: Checkpoint,
    network: Network,
    *,
    rows: Tensor,
    k: int,
    team: Team = SOLO,
) -> ModelScore:
    """The score that the options ask for.

    Args:
        config: of the scoring.
        checkpoint: ours or a published one.
        network: with its weights, on the device.
        rows: memory rows of normal images, (N, D), on the device.
        k: of `choose_rows_k`.
        team: the processes that score together.

    Raises:
        InputError: the checkpoint lacks what the score is made of, and it cannot be made.
    """
    warn_of_untrained(config.parts, checkpoint)
    device = rows.device
    backbone = needed_backbone(config, device, team=team)
    memories = find_memories(config, checkpoint, network, backbone=backbone, device=device, team=team)
    parts = {
        part: choose_score(
            part,
            rows=rows,
            k=k,
            temperature=checkpoint.bank.temperature,
            centre=checkpoint.svdd["centre"].to(device) if checkpoint.svdd else None,
            rec_loss=config.rec_loss,
            memories=memories,
            backbone=backbone,
        )
        for part in config.parts
    }
    standards, calibration = _held(config, checkpoint) if is_known(config, checkpoint, k=k) else (None, None)
    return ModelScore(
        network=network,
        parts=parts,
        memories=memories,
        backbone=backbone,
        standards=standards,
        calibration=calibration,
    )


def _held(config: Config, checkpoint: Checkpoint) -> tuple[Standards | None, Calibration | None]:
    """What the checkpoint holds of validation normals, as far as it does."""
    scores, standards = (checkpoint.training.get(name) for name in ("val_normal_scores", "standards"))
    return (
        Standards({part: tuple(standards[part]) for part in config.parts}) if standards and config.is_fused else None,
        Calibration.of(scores.numpy()) if scores is not None and len(scores) else None,
    )


def warn_of_untrained(parts: Iterable[str], checkpoint: Checkpoint) -> None:
    """Say where a score is made of what no loss has trained."""
    for part in parts:
        if part == "reconstruction" and not checkpoint.reconstructs:
            logger.warning("the score reconstruction tells nothing: %s was trained with --w_rec 0", checkpoint.path)
        elif part in knn.NEEDS_ROWS and not checkpoint.embeds:
            logger.warning("the score %s tells nothing: no loss trained the embeddings of %s", part, checkpoint.path)


def is_known(config: Config, checkpoint: Checkpoint, *, k: int) -> bool:
    """Whether what the checkpoint holds of validation normals is of this score, with this k and these settings."""
    return (
        checkpoint.has_parts(config.parts)
        and k == checkpoint.training.get("k")
        and all(has_settings(part, config, checkpoint) for part in config.parts)
    )


def choose_rows_k(config: Config, *, num_normal_rows: int) -> int:
    """The k of the parts that are made of nearest rows, 0 where there are none.

    Raises:
        InputError: --k exceeds the number of memory rows of normal images, or there is none.
    """
    return find_k(config, num_normal_rows=num_normal_rows) if knn.NEEDS_ROWS.intersection(config.parts) else 0


def find_k(config: Config, *, num_normal_rows: int) -> int:
    """The k to score with; a default that shrinks is said.

    Raises:
        InputError: --k exceeds the number of memory rows of normal images, or there is none.
    """
    if num_normal_rows == 0:
        raise InputError("the memory holds no row of a normal image to score against")
    k = choose_k(config.k, num_rows=num_normal_rows)
    if config.k is None and k < DEFAULT_K:
        logger.warning("k is %d rather than %d: the memory has no more rows of normal images", k, DEFAULT_K)
    return k
