"""Training at full length with the program's own trainer, scored after every round by several scores."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import plain
from salad.build import RunContext, open_context
from salad.config import Config
from salad.config.recipes import recipe_values
from salad.datasets import read_split
from salad.evaluation.metrics import auc
from salad.networks import unet
from salad.runs.folder import RunFolder
from salad.samples import NORMAL, Split
from salad.scores.inputs import Normals
from salad.scoring.evaluate import score_split
from salad.scoring.model import ScoringModel, choose_rows_k
from salad.scoring.patch_memories import build_memory
from salad.training.trainer import Trainer

SCORES = ("knn", "weighted", "reconstruction", "local")
SMOKE_SIZES = {"unet": 64, "CXR_resnet18": 32}  # pixels in smoke form
SMOKE_IMAGES = 16  # of each split in smoke form


@dataclass(frozen=True, kw_only=True)
class Training:
    """Run of a recipe: its name, the network, the data set, and options in place of those of the recipe.

    Attributes:
        recipe: name of the recipe.
        net_name: name of the network.
        data_set: folder of the data set in the folder of the data.
        options: options by name.
    """

    recipe: str
    net_name: str
    data_set: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Name of the run in results and files."""
        return f"{self.data_set}, {self.net_name}, {self.recipe}"

    def config(self, data: Path, work: Path, *, device: str, smoke: bool) -> Config:
        """Make the options of the run; in smoke form, two rounds of an epoch each with small images."""
        weights = {"weights": "none"} if self.net_name == "CXR_resnet18" else {}  # ImageNet's would be a download
        tiny = (
            {"isize": SMOKE_SIZES[self.net_name], "n_epochs": 1, "ans_select_rate": 0.9, "ans_size": 3, "rep_dim": 16}
            if smoke
            else {}
        )
        return Config.of(
            {
                **recipe_values(self.recipe),
                "dataset_name": "CXR_author",
                "net_name": self.net_name,
                "xp_path": work / self.name.replace(", ", "_"),
                "data_path": data / self.data_set,
                "cache": str(work / "cache" / self.data_set),
                "device": device,
                "score": "knn",
                **weights,
                **dict(self.options),
                **tiny,
            }
        )


def shrink_unet() -> None:
    """Leave `unet` and its baseline a few channels, for the smoke form, in this process."""
    unet.WIDTHS = plain.UNET_WIDTHS = (4, 4, 4, 8, 8, 8, 8)


def open_trainer(config: Config, *, smoke: bool) -> Trainer:
    """Make the trainer of a run, without validation: rounds are scored by `score_round`."""
    context = open_context(config)
    train = scanned(context, "train", smoke=smoke)
    assert train is not None, "every data set has images to train on"
    return Trainer(context, RunFolder(config.output.xp_path), train=train, val=None)


def scanned(context: RunContext, name: str, *, smoke: bool) -> Split | None:
    """Read and decode a split; None if the data set lacks it. In smoke form, a few images of each class."""
    data = context.config.data
    split = read_split(data.dataset_name, data.data_path, name, selection=data.selection)
    if split is None:
        return None
    if name == "train" and data.train_on == "normal":
        split = split.only_normal()
    if smoke:
        half = SMOKE_IMAGES // 2
        few = [*split.samples[:half], *split.samples[-half:]]  # sorted by class
        split = dataclasses.replace(split, samples=list(dict.fromkeys(few)))
    return context.scan({name: split})[name]


def train_rounds(trainer: Trainer, *, until: float, after_round: Callable[[dict[str, Any]], None]) -> bool:
    """Train round by round, without checkpoints, until the end or a time; report each round, the last in part.

    Args:
        trainer: new trainer.
        until: time at which to stop, on the clock of `time.monotonic`.
        after_round: function of the facts of a round.

    Returns:
        True if the training came to its end.
    """
    state, start, seconds = trainer.state, time.monotonic(), 0.0
    for number in range(trainer.config.num_rounds + 1):
        state.round, state.epoch_in_round = number, 0
        trainer.start_round()
        metrics: dict[str, float] = {}
        while not state.ends_round and time.monotonic() < until:
            metrics = trainer.train_epoch()
            seconds += metrics["seconds"]
        if metrics:
            facts = {"round": number, "epochs": state.epochs_done, "is_whole": state.ends_round, **metrics}
            after_round({**facts, "training seconds": seconds, "seconds": time.monotonic() - start})
        if not state.ends_round:
            return False
    return True


def score_round(trainer: Trainer, split: Split) -> dict[str, Any]:
    """Compute the AUC of every score on a split, with its 95 % interval, from the state of the training."""
    state, context = trainer.state, trainer.context
    config = context.config.changed(score="fused", fuse=SCORES)
    scoring = dataclasses.replace(context, config=config)
    rows = state.bank.rows[state.row_labels == NORMAL]
    local = build_memory(
        "local", scoring, network=state.network, backbone=None, train=trainer.train_split, is_announced=True
    )
    normals = Normals(
        rows=rows,
        k=choose_rows_k(config, num_normal_rows=len(rows)),
        temperature=config.memory.npc_temperature,
        centre=state.centre,
        rec_loss=config.loss.rec_loss,
        memories={"local": local},
    )
    model = ScoringModel(context=scoring, network=state.network, normals=normals)
    result = score_split(model, split, measures_standards=True)
    found = {part: auc(result.labels, scores) for part, scores in result.parts.items()}
    found["image std"] = auc(result.labels, result.image_std)  # a score without a model
    return {part: value.as_json() if value else None for part, value in found.items()}
