"""State of a training, which a checkpoint saves and a resumed run restores."""

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
from salad.errors import InputError, printable, refuse_shortage
from salad.memory import MemoryBank
from salad.patch_memory import PatchMemory
from salad.samples import Split
from salad.training.guards import check_loss_scale, check_weights
from salad.training.meters import Meters
from salad.training.optimiser import make_optimizer, make_trained
from salad.training.rng import rng_state, set_rng_state

logger = logging.getLogger(__name__)

PRE_TRAINING = -1  # its number as a round


class TrainingState:
    """Network, memory bank, anchors, SVDD centre and radius, optimiser and progress of a run.

    Args:
        context: context of the run; all its processes hold the same state.
        train: images to train on.
        start: checkpoint with the initial weights; None for the weights of `RunContext.start_network`.
    """

    def __init__(self, context: RunContext, train: Split, *, start: Checkpoint | None = None) -> None:
        config, device = context.config, context.device
        self.context = context
        self.train = train
        with context.team.first_alone("weights"):  # they may have to be downloaded
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
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp is torch.float16)  # does nothing if disabled
        self.round = PRE_TRAINING if config.optimisation.pre_training_epochs else 0
        self.epoch_in_round = 0
        self.epochs_done = 0
        self.best_auc = -math.inf
        self.meters: Meters | None = None  # of the current epoch

    @property
    def is_pre_training(self) -> bool:
        """True in the epochs before round 0."""
        return self.round == PRE_TRAINING

    @property
    def epochs_of_round(self) -> int:
        """Number of epochs of the current round."""
        optimisation = self.context.config.optimisation
        return optimisation.pre_training_epochs if self.is_pre_training else optimisation.n_epochs

    @property
    def ends_round(self) -> bool:
        """True after the last epoch of a round."""
        return self.epoch_in_round >= self.epochs_of_round

    def check_finite(self) -> None:
        """Raise `DivergedError` if a weight is not finite or fp16 skips every step."""
        check_weights(self.network)
        check_loss_scale(self.scaler)

    def state_dict(self) -> dict[str, Any]:
        """Collect the state other than network, memory bank, anchors and centre."""
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

    def save(self, last: Path, *, models: list[Path], facts: dict[str, Any], memories: dict[str, PatchMemory]) -> None:
        """Write checkpoints; the first process writes, and the others wait.

        Args:
            last: file to resume from, with all of the state; written after the others.
            models: names of a file for scoring, see `Checkpoint.for_scoring`; none for none.
            facts: further entries: validation results and fingerprints of the images.
            memories: patch memories, by name of the score.

        Raises:
            DivergedError: a weight is not finite.
            StorageError: a file cannot be written.
        """
        self.check_finite()
        team = self.context.team
        rngs = team.joined([rng_state()])
        if team.is_first:
            of_ranks = {"rng_of_ranks": rngs} if len(rngs) > 1 else {}
            checkpoint = Checkpoint(
                path=last,
                model_state=self.network.state_dict(),
                bank=self.bank,
                anchors=self.anchors,
                config=self.context.config.as_json(),
                normal_class=self.train.normal_class or None,
                row_labels=self.row_labels,
                svdd=None if self.centre is None else {"centre": self.centre, "radius": self.radius},
                training={"rng": rngs[0], **of_ranks, **self.state_dict(), **facts},
                memories=memories,
            )
            if models:
                save_checkpoint(models, checkpoint.for_scoring())
            save_checkpoint([last], checkpoint)
        team.agree(None)

    def load_state_dict(self, checkpoint: Checkpoint) -> None:
        """Restore the state from a checkpoint of `save`; the run continues bit by bit as if never interrupted.

        Raises:
            InputError: an entry is missing or has a wrong type.
        """
        try:
            self._load(checkpoint)
        except InputError:
            raise
        except Exception as error:  # a missing value or one of a wrong type can raise anything
            refuse_shortage(error, checkpoint.path)
            reason = printable(error)[:120]
            raise InputError(
                f"{checkpoint.path}: holds no state that a run can go on from ({reason} is missing or unfit)"
            ) from None

    def _load(self, checkpoint: Checkpoint) -> None:
        """Restore the state; a bad file can raise any error."""
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
        self._check_optimizer()
        # only what this release of torch knows: a schedule takes any name of the file for an attribute of its own
        own = self.schedule.state_dict()
        self.schedule.load_state_dict(
            {name: _alike(training["schedule"].get(name, own[name]), own[name]) for name in own}
        )
        self.scaler.load_state_dict(training.get("scaler", {}))
        self.round, self.epoch_in_round = training["round"], training["epoch_in_round"]
        self.epochs_done, self.best_auc = training["epoch"], float(training["best_auc"])
        if self.round > self.context.config.num_rounds or not self.epoch_in_round <= min(
            self.epochs_done, self.epochs_of_round
        ):
            raise InputError(
                f"{checkpoint.path}: stands in epoch {self.epochs_done}, the {self.epoch_in_round}th of round "
                f"{self.round}, which a run with its options never reaches"
            )
        self.meters = Meters.from_state_dict(training["tally"], device) if training["tally"] else None
        if self.meters is not None and self.meters.num_batches > len(self.train.samples):
            raise ValueError("the counts of its epoch")
        self._load_rng(training)
        # after an interruption at the end of an epoch, the schedule rightly steps before the optimiser
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")

    def _check_optimizer(self) -> None:
        """Raise ValueError if the state of a weight has neither its shape nor is a single number."""
        for weight, state in self.optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape not in ((), weight.shape):
                    raise ValueError(f"the optimizer's {name} of a weight")

    def _load_rng(self, training: dict[str, Any]) -> None:
        """Restore the random generators; warn if the number of processes has changed."""
        team = self.context.team
        rngs = training.get("rng_of_ranks", [training["rng"]])
        if len(rngs) == team.size:
            set_rng_state(rngs[team.rank])
            return
        logger.warning(
            "the run was saved by %d processes and goes on with %d: it will not repeat an uninterrupted run bit by bit",
            len(rngs),
            team.size,
        )
        if team.is_first:
            set_rng_state(rngs[0])


def _alike(value: Any, own: Any) -> Any:
    """Return a value of a file; raise ValueError if it is of another type than the program's own."""
    if not isinstance(value, type(own)):
        raise ValueError(f"a {type(own).__name__} of the schedule")
    return value


def fingerprints(train: Split, val: Split | None) -> dict[str, str]:
    """Compute the fingerprints of the images, by the keys of a checkpoint."""
    return {"images": train.fingerprint, "val_images": val.fingerprint if val else "no images"}
