"""Recipes of this program, by its own command and its Python API."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.fitted import Fitted
from benchmarks.protocol import QUIET
from salad import Detector
from salad.cli import test, train
from salad.runs.folder import MODEL_FILE, RESULT_FILE
from salad.study.results import MAPS


def fit_recipe(films: Path, xp: Path, words: list[str]) -> Detector:
    """Train, as `salad train` does, and load the model."""
    train.main(["CXR_author", words[0], str(xp), str(films), *words[1:]], standalone_mode=False)
    return Detector.load(xp / MODEL_FILE, device="cpu")


def score(detector: Detector, folder: Path) -> NDArray[np.float64]:
    """Score the images below a folder."""
    return detector.score(folder)


def fit(films: Path, xp: Path, *, seed: int, options: str) -> Fitted:
    """Train a recipe.

    Args:
        films: folder of `Films`.
        xp: folder of the run.
        seed: of the training.
        options: NET_NAME and options of train.
    """
    run = xp / "run"
    words = [*shlex.split(options), "--seed", str(seed), "--device", "cpu", "--n_jobs_dataloader", "1", "--overwrite"]
    detector = fit_recipe(films, run, [*words, "--cache", str(xp / "cache")])

    def locate(films: Path) -> tuple[float, float]:
        own = ["--load_model", str(run / MODEL_FILE), "--device", "cpu", "--cache", "off", *QUIET]
        test.main(["CXR_author", words[0], str(xp / "test"), str(films), *own], standalone_mode=False)
        located = json.loads((xp / "test" / RESULT_FILE).read_text(encoding="utf-8"))["localisation"]
        own_map = next(located[name] for name in MAPS if name in located)
        return own_map["pointing_game"]["value"], located["pointing_game_by_chance"]

    return Fitted(
        score=lambda folder: score(detector, folder),
        threshold=detector.threshold,
        model=run / MODEL_FILE,
        example=(fit_recipe, score),
        locate=locate,
    )
