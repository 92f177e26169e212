"""Validation during training: the score of the run, of the images of val/."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad.build import make_loader
from salad.config import Config
from salad.datasets.loader import Loader
from salad.distributed.team import SOLO, Team
from salad.evaluation.calibration import no_standards
from salad.evaluation.result import Result
from salad.patch_memory import LocalMemory
from salad.samples import Split
from salad.scoring.evaluate import score_split
from salad.scoring.model import choose_rows_k
from salad.scoring.patch_memories import build_memory, needed_backbone
from salad.scoring.scores import LOCAL, choose_score

if TYPE_CHECKING:
    from salad.networks import Network


class Validation:
    """Scores validation images as the run stands, and holds what a checkpoint needs to score by itself.

    Args:
        config: of the run.
        train: the images to train on; local memories are made of the normal ones.
        val: the images to score; or None.
        device: where the network lies.
        mean_image: that images are aligned to; None without --align.
        team: the processes that share the images.

    Attributes:
        k: nearest rows behind a score, 0 where it has none.
        result: of the last epoch, until the next one starts.
        memories: of local features as they were then, by the name of the score.

    Raises:
        InputError: the score is fused and there are no normal images to standardise it with, or a backbone is missing.
    """

    def __init__(
        self,
        config: Config,
        *,
        train: Split,
        val: Split | None,
        device: torch.device,
        mean_image: Tensor | None = None,
        team: Team = SOLO,
    ) -> None:
        num_normals = val.num_normal if val else 0
        if config.is_fused and num_normals < 2:
            raise no_standards(num_normals)
        self.config = config
        self.device = device
        self.team = team
        self.train = train
        self.val = val
        self.mean_image = mean_image
        self.val_loader = self._loader(val) if val else None
        self.k = choose_rows_k(config, num_normal_rows=train.num_normal * config.n_views)
        self.backbone = needed_backbone(config, device, team=team)
        self.of_backbone: dict[str, LocalMemory] = {}  # that does not change: made once
        self.announced = False
        self.result: Result | None = None
        self.memories: dict[str, LocalMemory] = {}

    def forget(self) -> None:
        """The network moves on: what was made with it fits no longer."""
        self.result, self.memories = None, {}

    def run(self, network: Network, *, rows: Tensor, centre: Tensor | None, ends_round: bool) -> Result | None:
        """Make the local memories and score the images of val/; None without these.

        Args:
            network: put into eval mode.
            rows: memory rows of normal images, (N, D).
            centre: of Deep SVDD.
            ends_round: whether a checkpoint to score with follows, which holds the memories also without val/.
        """
        if self.val is not None or ends_round:
            self.memories = self.build_memories(network)
        if self.val is None or self.val_loader is None:
            return None
        parts = {
            part: choose_score(
                part,
                rows=rows,
                k=self.k,
                temperature=self.config.npc_temperature,
                centre=centre,
                rec_loss=self.config.rec_loss,
                memories=self.memories,
                backbone=self.backbone,
            )
            for part in self.config.parts
        }
        return score_split(
            network,
            self.val,
            loader=self.val_loader,
            parts=parts,
            device=self.device,
            measures_standards=self.config.is_fused,
            team=self.team,
        )

    def build_memories(self, network: Network) -> dict[str, LocalMemory]:
        """The local memories that the score needs, by name."""
        found = dict(self.of_backbone)
        wanted = [part for part in self.config.parts if part in LOCAL and part not in found]
        for part in wanted:
            found[part] = build_memory(
                part,
                config=self.config,
                network=network,
                backbone=self.backbone,
                train=self.train,
                loader=self._loader(self.train),
                device=self.device,
                team=self.team,
                is_announced=self.announced,
            )
        self.announced = True
        self.of_backbone = {part: memory for part, memory in found.items() if part == "backbone"}
        return found

    def _loader(self, split: Split) -> Loader:
        return make_loader(self.config, split, self.device, mean_image=self.mean_image, team=self.team)
