"""Options of training: network, loss, memory bank, optimisation."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from pathlib import Path

from salad.config.declare import SCORES_TOO, TRAIN, argument, option
from salad.losses import LOSSES
from salad.networks import NETWORKS

WITH_IMAGENET = ", ".join(name for name, spec in NETWORKS.items() if spec.has_imagenet_trunk)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Options of the network."""

    net_name: str = argument(f"network: {', '.join(NETWORKS)}", of_model=True)

    rep_dim: int = option(200, "Number of dimensions of the embedding.", low=1, of_model=True)
    weights: str | None = option(
        None,
        f"Initial weights of a ResNet trunk: imagenet, none or a file  [default: imagenet for {WITH_IMAGENET}]",
        commands=(TRAIN,),
    )
    load_model: Path | None = option(
        None,
        "Checkpoint to start training from (main.py) or to score with  [default: none; test.py: XP_PATH/model.tar]",
        commands=SCORES_TOO,
    )


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Options of the loss other than the weights of its terms."""

    rec_loss: str = option(
        "l1",
        "Reconstruction loss: l1 (as released) or mse (as printed in the paper).",
        choices=("l1", "mse"),
        commands=(TRAIN,),
        of_model=True,
    )
    objective: str = option(
        "one-class", "Objective of Deep SVDD.", choices=("one-class", "soft-boundary"), commands=(TRAIN,)
    )
    nu: float = option(
        0.1,
        "Share of training images outside the soft boundary of Deep SVDD, from 0 to 1.",
        low=0,
        high=1,
        open_low=True,
        commands=(TRAIN,),
    )

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term of the loss, by its name in `LOSSES`."""
        return {name: getattr(self, spec.weight) for name, spec in LOSSES.items()}

    def trains(self, what: str) -> bool:
        """Check if a term with a positive weight trains a part of the network, a value of `LossSpec.trains`."""
        return any(self.weights[name] > 0 for name, spec in LOSSES.items() if spec.trains == what)


# The weights are fields made from the table `LOSSES`, so that a new loss brings its own option.
LossOptions: type[LossSettings] = make_dataclass(
    "LossOptions",
    [(spec.weight, float, option(spec.default, spec.help, low=0, commands=(TRAIN,))) for spec in LOSSES.values()],
    bases=(LossSettings,),
    frozen=True,
    kw_only=True,
)
LossOptions.__module__ = __name__  # so that it can be pickled


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Options of the memory bank and its anchors."""

    npc_temperature: float = option(
        0.1, "Temperature of the softmax over memory rows.", low=0, open_low=True, of_model=True
    )
    npc_momentum: float = option(
        0.5, "Share of its old value that a memory row keeps in an update.", low=0, high=0.999, commands=(TRAIN,)
    )
    ans_select_rate: float = option(
        0.1,
        "Share of memory rows that each further round adds to the anchors; int(1 / rate) rounds follow round 0.",
        low=0,
        high=1,
        open_low=True,
        commands=(TRAIN,),
    )
    ans_size: int = option(10, "Number of neighbours of an anchor.", low=1, commands=(TRAIN,))


@dataclass(frozen=True, kw_only=True)
class OptimisationOptions:
    """Options of the optimisation."""

    optimizer_name: str = option("adam", "Optimiser.", choices=("adam", "amsgrad"), commands=(TRAIN,))
    lr: float = option(1e-4, "Learning rate.", low=0, open_low=True, commands=(TRAIN,))
    lr_milestone: tuple[int, ...] = option(
        (100,),
        "Epoch after which the learning rate falls to a tenth, counted from the start of the run; repeatable.",
        low=1,
        commands=(TRAIN,),
    )
    weight_decay: float = option(1e-6, "Weight decay (L2 penalty).", low=0, commands=(TRAIN,))
    n_epochs: int = option(
        30,
        "Number of epochs in each round (round 0 and, by default, 10 more rounds); 0 trains nothing, for --score "
        "backbone.",
        low=0,
        commands=(TRAIN,),
        may_change=True,
    )
    pre_training_epochs: int = option(
        0, "Number of epochs before round 0 that train the reconstruction only.", low=0, commands=(TRAIN,)
    )
    amp: str = option(
        "auto",
        "Number format of the network in training: bf16, fp16, off (float32) or auto (bf16 on a GPU that has it, else "
        "off). Memory, losses and scores are always float32.",
        choices=("auto", "bf16", "fp16", "off"),
        commands=(TRAIN,),
    )
    sync_bn: bool = option(
        False,
        "Compute batch norm over the images of all processes of torchrun, not of each process; on GPUs only.",
        commands=(TRAIN,),
    )
    on_collapse: str = option(
        "warn",
        "Reaction if all embeddings collapse to one point: warn, or stop the run.",
        choices=("warn", "stop"),
        commands=(TRAIN,),
        may_change=True,
    )
