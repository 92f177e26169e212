"""Every parameter of the program, declared once: default, unit, bounds, help, who takes it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad.config.declare import TEST, TRAIN, check, option, value_from_json, without_removed
from salad.config.images import SCORES_TOO
from salad.config.recipes import RECIPES
from salad.config.scoring import ScoreOptions
from salad.datasets import check_dataset
from salad.errors import InputError
from salad.networks import check_isize, network_spec
from salad.samples import Selection

MAX_DECODED = 8192  # pixels a side, as of files


@dataclass(frozen=True, kw_only=True)
class Config(ScoreOptions):
    """One run. Field names are the option names; `None` stands for a default that depends on other things."""

    recipe: str | None = option(
        None,
        "Named set of defaults, said in full at the start: paper (the paper's text), released (the authors' program) "
        "or strong (the best found on validation images). Flags given on the line win  [default: none]",
        choices=tuple(RECIPES),
        commands=(TRAIN,),
    )

    # network
    rep_dim: int = option(200, "Length of the embedding.", low=1)
    weights: str | None = option(
        None,
        "Start of a ResNet trunk: imagenet, none or a file  [default: imagenet for CXR_resnet18]",
        commands=(TRAIN,),
    )
    load_model: Path | None = option(
        None,
        "Checkpoint: to start from (main.py), or to score with (others)  [default: none; test.py: XP_PATH/model.tar]",
        commands=SCORES_TOO,
    )

    # loss
    w_rec: float = option(0.5, "Weight of the reconstruction loss.", low=0, commands=(TRAIN,))
    w_svdd: float = option(0.5, "Weight of the Deep SVDD loss.", low=0, commands=(TRAIN,))
    w_contrast: float = option(
        1.0,
        "Weight of the aggregation loss; 0 leaves one round of reconstruction and Deep SVDD.",
        low=0,
        commands=(TRAIN,),
    )
    w_syn: float = option(
        0.0,
        "Weight of the loss that tells images with synthetic anomalies from those without; it trains the encoder up to "
        "its local features, for --score local.",
        low=0,
        commands=(TRAIN,),
    )
    rec_loss: str = option(
        "l1",
        "Reconstruction loss: l1 (as released) or mse (as printed in the paper).",
        choices=("l1", "mse"),
        commands=(TRAIN,),
    )
    objective: str = option(
        "one-class", "Deep SVDD objective.", choices=("one-class", "soft-boundary"), commands=(TRAIN,)
    )
    nu: float = option(
        0.1,
        "Share of training images allowed outside the soft boundary.",
        low=0,
        high=1,
        open_low=True,
        commands=(TRAIN,),
    )

    # memory and anchors
    npc_temperature: float = option(
        0.1,
        "Temperature of the softmax over the memory rows.",
        low=0,
        open_low=True,
    )
    npc_momentum: float = option(
        0.5, "Share of a memory row that an update keeps.", low=0, high=0.999, commands=(TRAIN,)
    )
    ans_select_rate: float = option(
        0.1,
        "Share of rows that become anchors, more in each round; there are int(1/rate) rounds after round 0.",
        low=0,
        high=1,
        open_low=True,
        commands=(TRAIN,),
    )
    ans_size: int = option(10, "Neighbours of an anchor.", low=1, commands=(TRAIN,))

    # optimisation
    optimizer_name: str = option("adam", "Optimiser.", choices=("adam", "amsgrad"), commands=(TRAIN,))
    lr: float = option(1e-4, "Learning rate.", low=0, open_low=True, commands=(TRAIN,))
    lr_milestone: tuple[int, ...] = option(
        (100,),
        "Epoch, counted over the whole run, after which the learning rate falls to a tenth; repeatable.",
        low=1,
        commands=(TRAIN,),
    )
    weight_decay: float = option(1e-6, "Weight decay (L2).", low=0, commands=(TRAIN,))
    n_epochs: int = option(
        30, "Epochs of one round (round 0, and 10 more by default).", low=1, commands=(TRAIN,), may_change=True
    )
    pre_training_epochs: int = option(0, "Epochs of reconstruction alone before round 0.", low=0, commands=(TRAIN,))

    # what test.py writes
    heatmaps: Path | None = option(
        None,
        "Folder for a picture of each test image with its heatmaps; where a data set has boxes or masks, these are "
        "compared with them  [default: none]",
        commands=(TEST,),
    )
    report: bool = option(
        True,
        "Write report.html, a page to look at without a network, and figures for papers.",
        commands=(TEST,),
        may_change=True,
    )

    # run
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps.", commands=SCORES_TOO, may_change=True)
    amp: str = option(
        "auto",
        "What the network computes in during training: bf16, fp16 or off (float32); auto is bf16 on a GPU that has it, "
        "else off. Memory, losses and all scores are float32.",
        choices=("auto", "bf16", "fp16", "off"),
        commands=(TRAIN,),
    )
    compile: bool = option(
        False, "Compile the network first (a minute or more; for long runs on a GPU).", may_change=True
    )
    seed: int = option(2, "Seed of everything random; -1 draws one and records it.", low=-1, high=2**32 - 1)
    sync_bn: bool = option(
        False,
        "Batch norm over the images of all processes that torchrun started, rather than of each; on GPUs.",
        commands=(TRAIN,),
    )
    deterministic: bool = option(False, "Use deterministic algorithms only, and no TF32 (slower on a GPU).")
    overwrite: bool = option(False, "Replace the run that XP_PATH holds.", commands=(TRAIN,), may_change=True)
    resume: str | None = option(
        None,
        "Go on with the run that XP_PATH holds; with auto, or start one where there is none  [default: a new run]",
        choices=("must", "auto"),
        bare="must",
        commands=(TRAIN,),
        may_change=True,
    )
    keep: int | None = option(
        None, "Rounds whose checkpoints are kept, the newest  [default: all]", low=1, commands=(TRAIN,), may_change=True
    )
    tensorboard: bool = option(
        False, "Write event files for TensorBoard, too, into XP_PATH/tensorboard.", commands=(TRAIN,), may_change=True
    )
    mlflow: str | None = option(
        None,
        "URI of the MLflow server, or folder, that gets the options and every epoch, too  [default: none]",
        commands=(TRAIN,),
        may_change=True,
    )
    on_collapse: str = option(
        "warn",
        "When all embeddings become one point: warn, or stop the run.",
        choices=("warn", "stop"),
        commands=(TRAIN,),
        may_change=True,
    )

    def __post_init__(self) -> None:
        for declared in dataclasses.fields(self):
            check(type(self), declared, getattr(self, declared.name))
        check_dataset(self.dataset_name, self.selection)
        if self.isize is None:
            object.__setattr__(self, "isize", network_spec(self.net_name).default_isize)
        if self.overwrite and self.resume:
            raise InputError("--resume goes on with the run that --overwrite would replace: choose one of them")
        check_isize(self.net_name, self.image_size)
        if self.decoded_size > MAX_DECODED:
            raise InputError(
                f"--crop is {self.crop:g}: images would be decoded to {self.decoded_size:,} pixels a side, above "
                f"{MAX_DECODED:,}; choose a larger share"
            )
        if self.w_rec == self.w_svdd == self.w_contrast == self.w_syn == 0:
            raise InputError("--w_rec, --w_svdd, --w_contrast and --w_syn are all 0: there is nothing to train")
        if self.pre_training_epochs and self.w_rec == 0:
            raise InputError("--pre_training_epochs trains the reconstruction, but --w_rec is 0")

    @property
    def selection(self) -> Selection:
        """What to take of the data set."""
        return Selection(**{one.name: getattr(self, one.name) for one in dataclasses.fields(Selection)})

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weight of each term of the loss, by its name."""
        return {"rec": self.w_rec, "aggregation": self.w_contrast, "svdd": self.w_svdd, "syn": self.w_syn}

    @property
    def image_size(self) -> int:
        """`isize`, resolved."""
        assert self.isize is not None
        return self.isize

    @property
    def margin(self) -> int:
        """Pixels that are cut off along each border of a decoded image, so that about the share `crop` is left."""
        return round(self.image_size * (1 / self.crop - 1) / 2)

    @property
    def decoded_size(self) -> int:
        """Height and width of decoded images, in pixels."""
        return self.image_size + 2 * self.margin

    @property
    def num_rounds(self) -> int:
        """Rounds after round 0: int(1 / ans_select_rate), none without the aggregation loss."""
        return int(1 / self.ans_select_rate) if self.w_contrast > 0 else 0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:
        """Rebuild what `as_json` wrote, in this version or an older one."""
        return cls(**{name: value_from_json(cls, name, value) for name, value in without_removed(values).items()})

    def as_json(self) -> dict[str, Any]:
        """A plain dict that JSON can hold and `read_values` reads back."""
        values = dataclasses.asdict(self)
        del values["overwrite"], values["resume"]  # a config that is loaded again must not delete anything
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
