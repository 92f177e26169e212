"""Benchmark `startup`: time from the command to the first training step, and to the help text."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.compare import Timing, seconds_of
from salad.datasets.phantom import write_phantom

REPOSITORY = Path(__file__).resolve().parent.parent
# main.py, stopped after its first step
FIRST_STEP = """
import os
from salad.cli import train
from salad.training.trainer import Trainer
step = Trainer.step
def first(*arguments):
    step(*arguments)
    os._exit(0)
Trainer.step = first
train(prog_name="main.py")
"""


def run(*, turns: int) -> list[Timing]:
    """Time whole processes, with the images already in the cache, as in every run but the first."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_phantom(root / "data", size=64, num_train=200, num_val=20, num_test=20)

        def train() -> None:
            words = ["CXR_author", "unet", root / "xp", root / "data", "--isize", 64, "--overwrite"]
            _run("-c", FIRST_STEP, *words)

        def show_help() -> None:
            _run("main.py", "--help")

        def import_torch() -> None:
            _run("-c", "import torch")

        timings = []
        for task, function in (
            ("`python main.py --help`", show_help),
            ("`python main.py` to the end of the first step, 200 images of 64 px in the cache", train),
            ("`import torch` alone, for comparison", import_torch),
        ):
            function()
            timings.append(Timing(task=task, ours=[seconds_of(function) for _ in range(turns)]))
    for timing in timings:
        timing.facts["longest"] = float(np.max(timing.ours))
    return timings


def _run(*words: object) -> None:
    """Run Python with these arguments in the repository, silently."""
    command = [sys.executable, *map(str, words)]
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
