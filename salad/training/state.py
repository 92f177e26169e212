"""State of a training: all that a checkpoint holds of it, and that comes back when it is resumed."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from salad.anchors import Anchors
from salad.build import RunContext
from salad.checkpoint import Checkpoint, save_checkpoint
from salad.device import amp_dtype
from salad.errors import InputError, printable
from salad.memory import MemoryBank
from salad.samples import Split
from salad.training.guards import check_loss_scale, check_weights
from salad.training.meters import Meters
from salad.training.optimiser import make_optimizer, make_trained
from salad.training.rng import rng_state, set_rng_state

logger = logging.getLogger(__name__)

PRE_TRAINING = -1  # its place among the rounds


class TrainingState:
    """Network, memory bank, anchors, SVDD centre and radius, optimiser, and where the run stands.

    Args:
        context: of the run, whose processes all hold the same state.
        train: the images to train on.
        start: a checkpoint whose weights to start from.
    """

    def __init__(self, context: RunContext, train: Split, *, start: Checkpoint | None = None) -> None:
        config, device = context.config, context.device
        self.context = context
        self.train = train
        with context.team.first_alone("weights"):  # they may have to be fetched
            self.network = context.start_network(start)
        self.trained = make_trained(self.network, config, device)
        num_views, memory = config.images.n_views, config.memory
        self.bank = MemoryBank(
            len(train.samples) * num_views,
            config.network.rep_dim,
            temperature=memory.npc_temperature,
            momentum=memory.npc_momentum,
            device=device,
        )
        self.row_labels = torch.tensor(train.labels, device=device).repeat_interleave(num_views)
        self.anchors: Anchors | None = None
        self.centre: Tensor | None = None
        self.radius = torch.zeros((), device=device)
        self.optimizer, self.schedule = make_optimizer(config, self.trained, device)
        self.amp = amp_dtype(config.optimisation.amp, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp is torch.float16)  # disabled, it does nothing
        self.round = PRE_TRAINING if config.optimisation.pre_training_epochs else 0
        self.epoch_in_round = 0
        self.epochs_done = 0
        self.best_auc = -math.inf
        self.meters: Meters | None = None  # of the epoch under way

    @property
    def is_pre_training(self) -> bool:
        """True before round 0."""
        return self.round == PRE_TRAINING

    @property
    def epochs_of_round(self) -> int:
        """Epochs of the round under way."""
        optimisation = self.context.config.optimisation
        return optimisation.pre_training_epochs if self.is_pre_training else optimisation.n_epochs

    @property
    def ends_round(self) -> bool:
        """True where the epoch that was finished is the last of its round."""
        return self.epoch_in_round >= self.epochs_of_round

    def check_finite(self) -> None:
        """Raise `DivergedError` where a weight is not finite, or fp16 has stalled."""
        check_weights(self.network)
        check_loss_scale(self.scaler)

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint holds beside network, bank, anchors and centre."""
        return {
            "round": self.round,
            "epoch_in_round": self.epoch_in_round,
            "epoch": self.epochs_done,
            "best_auc": self.best_auc,
            "tally": self.meters and self.meters.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "head": self.trained.head and self.trained.head.state_dict(),
            "weights_loaded": self.network.weights_loaded,
            "mean_image": self.context.template,
        }

    def save(self, paths: list[Path], *, facts: dict[str, Any], memories: dict[str, Any]) -> None:
        """Write a checkpoint of the run as it stands. Of several processes the first does, and the others wait for it.

        Args:
            paths: names of the file.
            facts: what else to keep: of the validation, and which images the run has.
            memories: patch memories, by the name of the score.

        Raises:
            DivergedError: a weight is not finite.
            StorageError: the file cannot be written.
        """
        self.check_finite()
        team = self.context.team
        rngs = team.joined([rng_state()])
        if team.is_first:
            of_ranks = {"rng_of_ranks": rngs} if len(rngs) > 1 else {}
            save_checkpoint(
                paths,
                network=self.network,
                bank=self.bank,
                anchors=self.anchors,
                config=self.context.config.as_json(),
                normal_class=self.train.normal_class or None,
                row_labels=self.row_labels,
                svdd=None if self.centre is None else {"centre": self.centre, "radius": self.radius},
                training={"rng": rngs[0], **of_ranks, **self.state_dict(), **facts},
                memories=memories,
            )
        team.agree(None)

    def load_state_dict(self, checkpoint: Checkpoint) -> None:
        """Take over the state of a checkpoint of `save`, so that the run goes on bit by bit as if never interrupted.

        Raises:
            InputError: the file does not hold all of it.
        """
        try:
            self._load(checkpoint)
        except (InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a value that is missing or of another type leads to
            reason = printable(error)[:120]
            raise InputError(
                f"{checkpoint.path}: holds no state that a run can go on from ({reason} is missing or unfit)"
            ) from None

    def _load(self, checkpoint: Checkpoint) -> None:
        training, device = checkpoint.training, self.context.device
        checkpoint.load_into(self.network)
        self.network.weights_loaded = training["weights_loaded"]
        self.bank.rows = checkpoint.bank.rows.to(device)
        self.anchors = checkpoint.anchors and checkpoint.anchors.to(device)
        if checkpoint.svdd is not None:
            self.centre = checkpoint.svdd["centre"].to(device)
            self.radius = checkpoint.svdd["radius"].to(device)
        if self.trained.head is not None:
            self.trained.head.load_state_dict(training["head"])
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["schedule"])
        self.scaler.load_state_dict(training.get("scaler", {}))
        self.round, self.epoch_in_round = int(training["round"]), int(training["epoch_in_round"])
        self.epochs_done, self.best_auc = int(training["epoch"]), float(training["best_auc"])
        self.meters = Meters.from_state_dict(training["tally"], device) if training["tally"] else None
        self._load_rng(training)
        # where no step of an epoch was left, the schedule rightly moves first
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")

    def _load_rng(self, training: dict[str, Any]) -> None:
        team = self.context.team
        rngs = training.get("rng_of_ranks", [training["rng"]])
        if len(rngs) == team.size:
            set_rng_state(rngs[team.rank])
            return
        logger.warning(
            "the run was saved by %d processes and goes on with %d: it will not end bit by bit as it would have",
            len(rngs),
            team.size,
        )
        if team.is_first:
            set_rng_state(rngs[0])


def fingerprints(train: Split, val: Split | None) -> dict[str, str]:
    """Tell the images of a run from others, by the names of a checkpoint."""
    return {"images": train.fingerprint, "val_images": val.fingerprint if val else "no images"}
