"""Stage `paper`: the recipes `paper` and `released` at their own length, with AUCs after every round."""

from __future__ import annotations

import json
import multiprocessing
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.gpu.curves import draw_curves
from benchmarks.gpu.notes import Notes, Setting
from benchmarks.gpu.training import Training, open_trainer, scanned, score_round, shrink_unet, train_rounds

# in the order of their worth; two run at a time on a GPU, which one alone does not fill
TRAININGS = (
    Training(recipe="paper", net_name="unet", data_set="kermany_dev"),
    Training(recipe="released", net_name="unet", data_set="kermany_dev"),
    Training(recipe="released", net_name="CXR_resnet18", data_set="kermany_dev"),
    Training(recipe="paper", net_name="CXR_resnet18", data_set="kermany_dev"),
    Training(recipe="released", net_name="unet", data_set="nih_adult_dev"),
    Training(recipe="paper", net_name="unet", data_set="nih_adult_dev"),
)
AT_A_TIME = 2
TO_SCORE = 12.0  # seconds that the last scoring and the drawing of the curves may take
LEAST = 30.0  # seconds below which no training starts
LOOK = 0.5  # seconds between two looks at the running trainings


def run(setting: Setting, notes: Notes) -> None:
    """Run the trainings, as far as the time goes."""
    waiting = [training for training in TRAININGS if (setting.data / training.data_set / "train").is_dir()]
    waiting = waiting[:3:2] if setting.smoke else waiting  # both recipes, and both networks
    context, running = multiprocessing.get_context("spawn"), list[tuple[Training, BaseProcess]]()
    while waiting or running:
        while waiting and len(running) < AT_A_TIME and setting.left > LEAST + TO_SCORE:
            training = waiting.pop(0)
            process: BaseProcess = context.Process(target=follow, args=(training, setting, _part(setting, training)))
            process.start()
            running.append((training, process))
        if not running:
            break
        time.sleep(LOOK)
        going = [(training, process) for training, process in running if process.is_alive()]
        for training, process in running:
            _gather(training, setting, notes, has_failed=bool(process.exitcode))
        running = going
    for training in waiting:
        notes.add(training.name, {"left out": "no time"})


def _part(setting: Setting, training: Training) -> Path:
    """Path of the results of one training."""
    return setting.work / f"{training.name.replace(', ', '_')}.json"


def _gather(training: Training, setting: Setting, notes: Notes, *, has_failed: bool) -> None:
    """Take over the results of a training, if there are new ones, and draw the curves."""
    path = _part(setting, training)
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if has_failed and "error" not in values:
        values["error"] = "the training failed; the log says why"
    if values and values != notes.values.get(training.name):
        notes.add(training.name, values)
        draw_curves(notes.values, setting.out / "curves.png")


def follow(training: Training, setting: Setting, path: Path) -> None:
    """Run one training until its end or the end of the time, and write its curve after every round.

    Args:
        training: training to run.
        setting: settings of the stage.
        path: file of its results.
    """
    if setting.smoke:
        shrink_unet()
    notes, until = Notes(path), setting.start + setting.seconds - TO_SCORE
    config = training.config(setting.data, setting.work, device=setting.device, smoke=setting.smoke)
    trainer = open_trainer(config, smoke=setting.smoke)
    splits = {name: scanned(trainer.context, name, smoke=setting.smoke) for name in ("val", "test")}
    val, test = splits["val"], splits["test"]
    curve_name = "val" if val is not None and val.has_both_classes else "test"
    curve_split = splits[curve_name]
    assert curve_split is not None and test is not None, "only val may be absent"
    for name, value in {
        "options": config.as_json(),
        "images": len(trainer.train_split.samples),
        "image steps planned": len(trainer.train_split.samples)
        * config.optimisation.n_epochs
        * (config.num_rounds + 1),
        "curve of": curve_name,  # of the test images where val/ has no abnormal ones; it chooses nothing
    }.items():
        notes.add(name, value)
    rounds: list[dict[str, Any]] = []

    def after_round(facts: dict[str, Any]) -> None:
        rounds.append({**facts, "auc": score_round(trainer, curve_split)})
        notes.add("rounds", rounds)

    notes.add("finished", train_rounds(trainer, until=until, after_round=after_round))
    notes.add("test", score_round(trainer, test))
