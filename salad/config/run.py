"""Options of a run: what it writes, and how it computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from salad.config.declare import SCORES_TOO, TEST, TRAIN, argument, option
from salad.config.recipes import RECIPES
from salad.errors import InputError


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options of what is written."""

    xp_path: Path = argument("folder for everything that is written", may_change=True)

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


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of the run as a whole."""

    recipe: str | None = option(
        None,
        "Named set of defaults, said in full at the start: paper (the paper's text), released (the authors' program) "
        "or strong (the best found on validation images). Flags given on the line win  [default: none]",
        choices=tuple(RECIPES),
        commands=(TRAIN,),
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps.", commands=SCORES_TOO, may_change=True)
    compile: bool = option(
        False, "Compile the network first (a minute or more; for long runs on a GPU).", may_change=True
    )
    seed: int = option(2, "Seed of everything random; -1 draws one and records it.", low=-1, high=2**32 - 1)
    deterministic: bool = option(
        False,
        "Use deterministic algorithms only, and no TF32 (slower on a GPU): the same machine repeats a run bit by bit; "
        "another processor or version of torch does not.",
    )
    overwrite: bool = option(False, "Replace the run that XP_PATH holds.", commands=(TRAIN,), may_change=True)
    resume: str | None = option(
        None,
        "Go on with the run that XP_PATH holds; with auto, or start one where there is none  [default: a new run]",
        choices=("must", "auto"),
        bare="must",
        commands=(TRAIN,),
        may_change=True,
    )

    def __post_init__(self) -> None:
        if self.overwrite and self.resume:
            raise InputError("--resume goes on with the run that --overwrite would replace: choose one of them")
