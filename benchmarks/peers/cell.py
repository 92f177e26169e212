"""Command `python -m benchmarks.peers.cell FILMS METHOD SEED XP`: train and score one method, and write cell.json.

It runs in a process of its own, on one thread, so that processor time and memory are its own.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import torch

from benchmarks.peers.cost import measured
from benchmarks.peers.films import JITTERED, TEST, TRAIN, VAL, Films
from benchmarks.peers.fitted import images_below
from benchmarks.peers.methods import METHODS

CELL_FILE = "cell.json"


def run_cell(films: Films, method: str, seed: int, xp: Path) -> None:
    """Train and score a method, and write its scores and costs.

    Args:
        films: data set.
        method: one of `METHODS`.
        seed: of the method.
        xp: folder for its files.
    """
    entry = METHODS[method]
    module = importlib.import_module(f"benchmarks.peers.{entry.module}")
    number = len(images_below(films.folder / TRAIN))
    fitted, training = measured(
        lambda: module.fit(films.folder, xp, seed=seed, options=entry.options), num_images=number
    )
    folders = [folder for folder in (VAL, JITTERED) if (films.folder / folder).exists()]
    scores = {folder: fitted.score(films.folder / folder).tolist() for folder in folders}
    tested, scoring = measured(lambda: fitted.score(films.folder / TEST), num_images=len(films.test))
    scores[TEST] = tested.tolist()
    shared = fitted.shared
    shared_each = shared.cpu_seconds / shared.num_images if shared else 0.0
    pointing = fitted.locate(films.folder) if fitted.locate and any(film.boxes for film in films.test) else None
    facts = {
        "method": method,
        "seed": seed,
        "scores": scores,
        "threshold": fitted.threshold,
        "train_cpu_seconds": training.cpu_seconds + (shared.cpu_seconds if shared else 0),
        "peak_bytes": max(training.peak_bytes, shared.peak_bytes if shared else 0),
        "images_per_second": len(tested) / (scoring.cpu_seconds + shared_each * len(tested)),
        "model_bytes": fitted.model.stat().st_size,
        "lines": fitted.num_lines,
        "pointing": pointing,
    }
    (xp / CELL_FILE).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_cell(Films(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
