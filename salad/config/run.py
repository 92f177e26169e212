"""Options of a run: its output, device, seed and resumption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from salad.config.declare import ENROL, SCORES_TOO, TEST, TRAIN, argument, option
from salad.config.recipes import RECIPES
from salad.errors import InputError


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options of the output."""

    xp_path: Path = argument("folder of the run, for everything it writes", may_change=True)

    out: Path | None = option(
        None, "Folder for the results of test.py, if not XP_PATH  [default: XP_PATH]", commands=(TEST,), may_change=True
    )
    heatmaps: Path | None = option(
        None,
        "Folder for pictures of the test images with their heatmaps and the boxes or masks of experts  [default: no "
        "pictures]",
        commands=(TEST,),
    )
    report: bool = option(
        True,
        "Write report.html, a page that works offline, and figures for papers.",
        commands=(TEST,),
        may_change=True,
    )
    keep: int | None = option(
        None,
        "Number of newest rounds whose checkpoints are kept  [default: all]",
        low=1,
        commands=(TRAIN,),
        may_change=True,
    )
    tensorboard: bool = option(
        False, "Also write event files for TensorBoard to XP_PATH/tensorboard.", commands=(TRAIN,), may_change=True
    )
    mlflow: str | None = option(
        None,
        "Also send the options and every epoch to MLflow: URI of a server, or a folder  [default: none]",
        commands=(TRAIN,),
        may_change=True,
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of the run as a whole."""

    recipe: str | None = option(
        None,
        "Named set of defaults, logged at the start: paper (the paper's text), released (the authors' program), "
        "strong (recommended) or quick (no training). Options on the command line override it  "
        "[default: none]",
        choices=tuple(RECIPES),
        commands=(TRAIN,),
    )
    device: str = option(
        "auto", "Device: auto, cpu, cuda, cuda:N or mps.", commands=(*SCORES_TOO, ENROL), may_change=True
    )
    compile: bool = option(
        False, "Compile the network first. This takes a minute or more and pays off in long GPU runs.", may_change=True
    )
    seed: int = option(2, "Seed of all random generators; -1 draws one and records it.", low=-1, high=2**32 - 1)
    deterministic: bool = option(
        False,
        "Use deterministic algorithms and no TF32, so that the same machine repeats a run bit by bit. This slows a "
        "GPU down; another processor or torch version still gives other results.",
    )
    overwrite: bool = option(
        False,
        "Replace the run in XP_PATH; in test.py, replace results of another model or data set, and files in "
        "--heatmaps.",
        commands=(TRAIN, TEST),
        may_change=True,
    )
    resume: str | None = option(
        None,
        "Resume the run in XP_PATH. auto starts a new run if there is none; must (or no value) stops with an error  "
        "[default: a new run]",
        choices=("must", "auto"),
        bare="must",
        commands=(TRAIN,),
        may_change=True,
    )

    def __post_init__(self) -> None:
        if self.overwrite and self.resume:
            raise InputError("--resume continues the run that --overwrite would replace: choose one of them")
