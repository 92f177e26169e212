"""Stage `strong`: the recipe `strong` by the program's own commands, then at 256 pixels with a longer schedule."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.notes import Notes, Setting
from benchmarks.gpu.stages import ROOT
from salad.runs.folder import MODEL_FILE, RESULT_FILE

TINY = "--isize 64 --n_epochs 1 --rep_dim 16 --n_jobs_dataloader 0"
TO_TEST = 15.0  # seconds kept for the test
SHUTDOWN = 10.0  # seconds in which an interrupted training saves its state


@dataclass(frozen=True, kw_only=True)
class Command:
    """Command line of a training: data set, network, and options."""

    data_set: str
    words: str


COMMANDS = {
    "strong": Command(data_set="kermany_dev", words="unet --recipe strong"),
    "strong with Lite0": Command(data_set="kermany_dev", words="unet --recipe strong --backbone efficientnet_lite0"),
    "strong at 256 px, adults": Command(
        data_set="nih_adult_dev",
        words="unet --recipe strong --isize 256 --n_epochs 36 --lr_milestone 24 --lr_milestone 33",
    ),
}


def run(setting: Setting, notes: Notes) -> None:
    """Train and test each; the first take as long as they need, the last what is left."""
    for name, command in list(COMMANDS.items())[-1 if setting.smoke else 0 :]:
        if not (setting.data / command.data_set / "train").is_dir():
            notes.add(name, {"left out": f"{command.data_set} is not there"})
        elif setting.left < TO_TEST + SHUTDOWN:
            notes.add(name, {"left out": "no time"})
        else:
            notes.measure(name, lambda name=name, command=command: train_and_test(name, command, setting))  # type: ignore[misc]


def train_and_test(name: str, command: Command, setting: Setting) -> dict[str, Any]:
    """Train until the end or, by a signal, the end of the time, then test what was reached."""
    xp, data = setting.work / name.replace(" ", "_").replace(",", ""), setting.data / command.data_set
    net_name, *options = command.words.split()
    words = ["CXR_author", net_name, str(xp), str(data), "--device", setting.device]
    words += ["--cache", str(setting.work / "cache" / command.data_set)]
    options += TINY.split() if setting.smoke else []
    start = time.monotonic()
    is_whole = call("main.py", [*words, *options], seconds=setting.left - TO_TEST - SHUTDOWN)
    trained = time.monotonic()
    model = xp / MODEL_FILE if is_whole else xp / "last.tar"
    call("test.py", [*words, "--load_model", str(model), "--no_report"], seconds=max(5.0, setting.left - 1))
    result = json.loads((xp / RESULT_FILE).read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (xp / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "options": command.words,
        "finished": is_whole,
        "epochs": len(lines),
        "images/s": lines[-1]["images_per_second"] if lines else None,
        "training seconds, start and decoding included": trained - start,
        "test seconds, start included": time.monotonic() - trained,
        "auc": result["auc"],
        "baselines": result["baseline_auc"],
    }


def call(program: str, words: list[str], *, seconds: float) -> bool:
    """Run a program of the repository, and interrupt it by SIGTERM after some seconds.

    Returns:
        True if it came to its end.

    Raises:
        RuntimeError: it failed.
    """
    process = subprocess.Popen([sys.executable, str(Path(ROOT) / program), *words], cwd=ROOT)
    try:
        status = process.wait(timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=SHUTDOWN)
        return False
    if status != 0:
        raise RuntimeError(f"{program} ended with status {status}")
    return True
