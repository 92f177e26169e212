"""What of a running training goes into a checkpoint, and comes back when it is resumed."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from salad.checkpoint import Checkpoint, save_checkpoint
from salad.errors import InputError, printable
from salad.samples import Split
from salad.training.meters import Tally
from salad.training.rng import rng_state, set_rng_state

if TYPE_CHECKING:
    from salad.training.trainer import Trainer

logger = logging.getLogger(__name__)


def save(trainer: Trainer, paths: list[Path]) -> None:
    """Write a checkpoint of the run as it stands, if all in it is finite.

    Of several processes the first does, and the others wait for it.
    """
    trainer.check_finite()
    rngs = trainer.team.joined([rng_state()])
    if trainer.team.is_first:
        found = trainer.validation.result
        training = {
            "rng": rngs[0],
            **({"rng_of_ranks": rngs} if len(rngs) > 1 else {}),
            "round": trainer.round,
            "epoch_in_round": trainer.epoch_in_round,
            "epoch": trainer.epochs_done,
            "val_auc": found and found.auc and found.auc.value,
            "best_auc": trainer.best_auc,
            "parts": trainer.config.parts,
            "k": trainer.validation.k,
            "val_normal_scores": found and torch.from_numpy(found.normal_scores),
            "standards": found and found.standards and found.standards.of,
            "tally": trainer.tally and trainer.tally.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "schedule": trainer.schedule.state_dict(),
            "scaler": trainer.scaler.state_dict(),
            **fingerprints(trainer.train_split, trainer.val_split),
            "head": trainer.trained.head and trainer.trained.head.state_dict(),
            "weights_loaded": trainer.network.weights_loaded,
            "mean_image": trainer.mean_image,
        }
        save_checkpoint(
            paths,
            network=trainer.network,
            bank=trainer.bank,
            anchors=trainer.anchors,
            config=trainer.config.as_json(),
            normal_class=trainer.train_split.normal_class or None,
            row_labels=trainer.row_labels,
            svdd=None if trainer.centre is None else {"centre": trainer.centre, "radius": trainer.radius},
            training=training,
            memories=trainer.validation.memories,
        )
    trainer.team.agree(None)


def fingerprints(train: Split, val: Split | None) -> dict[str, str]:
    """What tells the images of a run from others, by the names of a checkpoint."""
    return {"images": train.fingerprint, "val_images": val.fingerprint if val else "no images"}


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Take over the state of a checkpoint of `save`, so that the run goes on bit by bit as if never interrupted.

    Raises:
        InputError: the file does not hold all of it.
    """
    try:
        _restore(trainer, checkpoint)
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a value that is missing or of another type leads to
        reason = printable(error)[:120]
        raise InputError(
            f"{checkpoint.path}: holds no state that a run can go on from ({reason} is missing or unfit)"
        ) from None


def _restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    training, device = checkpoint.training, trainer.device
    checkpoint.load_into(trainer.network)
    trainer.network.weights_loaded = training["weights_loaded"]
    trainer.bank.rows = checkpoint.bank.rows.to(device)
    trainer.anchors = checkpoint.anchors and checkpoint.anchors.to(device)
    if checkpoint.svdd is not None:
        trainer.centre = checkpoint.svdd["centre"].to(device)
        trainer.radius = checkpoint.svdd["radius"].to(device)
    if trainer.trained.head is not None:
        trainer.trained.head.load_state_dict(training["head"])
    trainer.optimizer.load_state_dict(training["optimizer"])
    trainer.schedule.load_state_dict(training["schedule"])
    trainer.scaler.load_state_dict(training.get("scaler", {}))
    trainer.round, trainer.epoch_in_round = int(training["round"]), int(training["epoch_in_round"])
    trainer.epochs_done, trainer.best_auc = int(training["epoch"]), float(training["best_auc"])
    trainer.tally = Tally.from_state_dict(training["tally"], device) if training["tally"] else None
    rngs = training.get("rng_of_ranks", [training["rng"]])
    if len(rngs) == trainer.team.size:
        set_rng_state(rngs[trainer.team.rank])
    else:
        logger.warning(
            "the run was saved by %d processes and goes on with %d: it will not end bit by bit as it would have",
            len(rngs),
            trainer.team.size,
        )
        if trainer.team.is_first:
            set_rng_state(rngs[0])
    # where no step of an epoch was left, the schedule rightly moves first
    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
