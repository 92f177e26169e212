"""Validation during training: scores of the images of val/."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from salad.build import RunContext
from salad.datasets import DATASETS
from salad.evaluation.belonging import count_told
from salad.evaluation.calibration import no_standards
from salad.evaluation.result import Result
from salad.images.headers import read_told
from salad.patch_memory import PatchMemory
from salad.samples import Split
from salad.scores import PATCH_SCORES, SCORES
from salad.scores.inputs import Normals
from salad.scoring.cautions import training_cautions
from salad.scoring.evaluate import score_split
from salad.scoring.films import calibration_facts, calibration_of, normal_aspects
from salad.scoring.model import ScoringModel, choose_rows_k
from salad.scoring.patch_memories import backbone_facts, build_memory, needed_backbone

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


class Validation:
    """Scorer of validation images; holds the results and patch memories that a checkpoint saves.

    Args:
        context: context of the run.
        train: images to train on; the normal ones make the patch memories.
        val: images to score, or None.

    Attributes:
        k: number of nearest rows; 0 if no score uses rows.
        result: result of the last epoch; None from the start of the next one.
        memories: patch memories of that epoch, by name of the score.

    Raises:
        InputError: there are fewer than two normal images to standardise a fused score, or a backbone is missing.
    """

    def __init__(self, context: RunContext, *, train: Split, val: Split | None) -> None:
        scoring = context.config.scoring
        num_normals = val.num_normal if val else 0
        if scoring.is_fused and num_normals < 2:
            raise no_standards(num_normals)
        self.context = context
        self.parts = scoring.parts
        self.train = train
        self.val = val
        num_rows = train.num_normal * context.config.images.n_views
        self.k = choose_rows_k(context.config, num_normal_rows=num_rows)
        for line in training_cautions(context.config, k=self.k):
            logger.warning("%s", line)
        self.backbone = needed_backbone(context)
        self.aspects = normal_aspects(val, context.config) if val else np.empty(0)
        data = context.config.data
        facts = read_told(
            train.only_normal().samples,
            part=DATASETS[data.dataset_name].part,
            num_threads=data.n_jobs_dataloader,
        )
        self.told = count_told(facts)
        self.frozen: dict[str, PatchMemory] = {}  # patch memories of the frozen backbone, made once
        self.announced = False
        self.result: Result | None = None
        self.memories: dict[str, PatchMemory] = {}

    def forget(self) -> None:
        """Drop the result and memories before the network changes."""
        self.result, self.memories = None, {}

    def run(self, network: Network, *, rows: Tensor, centre: Tensor | None, ends_round: bool) -> Result | None:
        """Make the patch memories and score the images of val/; None without val/.

        Within a round the results choose an epoch, which takes both classes; without them nothing is done.

        Args:
            network: network, which is put into eval mode.
            rows: memory rows of normal images, (N, D).
            centre: centre of Deep SVDD, (D,), or None.
            ends_round: True at the end of a round; its checkpoint holds the patch memories in any case.
        """
        config = self.context.config
        if not ends_round and not (self.val and self.val.has_both_classes):
            return None
        self.memories = self.build_memories(network)
        if self.val is None:
            return None
        normals = Normals(
            rows=rows,
            k=self.k,
            temperature=config.memory.npc_temperature,
            centre=centre,
            rec_loss=config.loss.rec_loss,
            memories=self.memories,
            backbone=self.backbone,
        )
        model = ScoringModel(context=self.context, network=network, normals=normals)
        return score_split(model, self.val, measures_standards=config.scoring.is_fused)

    def facts(self) -> dict[str, Any]:
        """Collect the validation results by the keys of a checkpoint."""
        result = self.result
        held_out = calibration_of(result, self.aspects) if result else None
        return {
            "val_auc": result and result.auc and result.auc.value,
            "parts": self.parts,
            "k": self.k,
            "backbone": backbone_facts(self.backbone),
            "told": self.told,
            "standards": result and result.standards and result.standards.of,
            **calibration_facts(held_out),
        }

    def build_memories(self, network: Network) -> dict[str, PatchMemory]:
        """Build the patch memories of the score, by name."""
        memories = dict(self.frozen)
        for part in self.parts:
            if part in PATCH_SCORES and part not in memories:
                memories[part] = build_memory(
                    part,
                    self.context,
                    network=network,
                    backbone=self.backbone,
                    train=self.train,
                    is_announced=self.announced,
                )
        self.announced = True
        self.frozen = {part: memory for part, memory in memories.items() if SCORES[part].uses_backbone}
        return memories
