"""Plan the runs of a study, do each of them, and keep what the study is made of."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from salad.datasets import read_split
from salad.errors import InputError, printable
from salad.input_files import parse_json, read_input
from salad.runs.atomic import atomic_file
from salad.runs.folder import LAST_FILE, RESULT_FILE
from salad.runs.lock import only_one
from salad.samples import Selection
from salad.study.jobs import Call

STUDY_FILE, LOG, TIMES, LOCK = "study.json", "output.txt", "seconds.json", "lock"
SELECTING = tuple(field.name for field in fields(Selection) if field.name != "val_share")  # options that choose images
FACTS = {  # of study.json that all runs have in common, with their names in messages
    "dataset_name": "data set",
    "data_path": "DATA_PATH",
    "selection": "selection of images",
    "images": "images",
    "folds": "--folds",
}


@dataclass(frozen=True, kw_only=True)
class Method:
    """Network and options that a study trains and scores.

    Attributes:
        name: of the method and of its folder.
        words: NET_NAME and options as the user sees them.
        net_name: NET_NAME.
        train: options of `salad train`.
        test: options of `salad test`.
    """

    name: str
    words: str
    net_name: str
    train: Sequence[str] = ()
    test: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Data:
    """Data set of a run: DATASET_NAME and DATA_PATH.

    Attributes:
        dataset_name: one of `DATASETS`.
        path: of the data set.
        fold: number of the fold whose images are tested, from 1; None without folds.
    """

    dataset_name: str
    path: Path
    fold: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """Training and scoring of a method with a seed, a job of `do_all`."""

    method: Method
    data: Data
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Folder in that of the study."""
        return f"{self.method.name}/{self.folder.name}"

    @property
    def kind(self) -> str:
        """Name of the method, whose runs take about as long."""
        return self.method.name

    @property
    def log(self) -> Path:
        """Output of the commands of the run."""
        return self.folder / LOG

    @property
    def is_done(self) -> bool:
        """True if the model is trained, and scored on the test images."""
        return (self.folder / RESULT_FILE).exists()

    @property
    def seconds(self) -> float | None:
        """Time of training and scoring together; None if it is not known."""
        times = read_times(self.folder)
        return sum(times.values()) if times else None

    def do(self, call: Call) -> bool:
        """Train and score, or finish an interrupted run; return True on success."""
        place = [self.data.dataset_name, self.method.net_name, str(self.folder), str(self.data.path)]
        seed = ["--seed", str(self.seed)]
        was_begun = (self.folder / LAST_FILE).exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        # --keep: else the checkpoints of all rounds fill gigabytes
        train = ["train", *place, "--keep", "1", *self.method.train, *seed, "--resume", "auto"]
        start = time.monotonic()
        if not call(train, self.log):
            return False
        trained = time.monotonic()
        if not call(["test", *place, "--no_report", "--overwrite", *self.method.test, *seed], self.log):
            return False
        if not was_begun:  # else the time before the interruption is missing
            seconds = {"train": trained - start, "test": time.monotonic() - trained}
            (self.folder / TIMES).write_text(json.dumps(seconds), encoding="utf-8")
        return True


def read_times(folder: Path) -> dict[str, float]:
    """Read the seconds of training and scoring of a run, ``train`` and ``test``; empty if they are not known."""
    path = folder / TIMES
    times: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return times


def plan(data: Sequence[Data], methods: Iterable[Method], seeds: Iterable[int], out: Path) -> list[Run]:
    """List all runs, seed by seed, so that a table of few seeds is available early.

    Args:
        data: the data set, or its folds.
        methods: to train and score.
        seeds: of the runs of each method.
        out: folder of the study.
    """
    methods = list(methods)
    return [
        Run(method=method, data=fold, seed=seed, folder=out / method.name / folder_name(seed, fold.fold))
        for seed in seeds
        for fold in data
        for method in methods
    ]


def folder_name(seed: int, fold: int | None) -> str:
    """Name the folder of a run in that of its method."""
    return f"seed{seed}" if fold is None else f"seed{seed}_fold{fold}"


def describe(data: Data, selection: Selection, *, folds: int | None, methods: Iterable[Method]) -> dict[str, Any]:
    """Describe a study for study.json: the images of each split by number and digest, folds, and methods.

    Raises:
        InputError: the images cannot be listed.
    """
    splits = {
        name: read_split(data.dataset_name, data.path, name, selection=selection) for name in ("train", "test", "val")
    }
    chosen = {name: getattr(selection, name) for name in SELECTING}
    return {
        "dataset_name": data.dataset_name,
        "data_path": printable(data.path.resolve()),
        "selection": {name: str(value) for name, value in chosen.items() if value is not None},
        "images": {name: split.fingerprint if split else "none" for name, split in splits.items()},
        "folds": folds,
        "methods": {method.name: method.words for method in methods},
    }


def keep(facts: dict[str, Any], out: Path) -> None:
    """Write study.json, or compare it with that of an earlier start; new methods join it.

    Args:
        facts: see `describe`.
        out: folder of the study.

    Raises:
        InputError: the folder holds another study, or other files.
    """
    path, where = out / STUDY_FILE, printable(out)
    way_out = "choose another --out, or the same as before"
    try:
        known = parse_json(read_input(path))
        methods = dict(known["methods"])
        differing = [name for name in FACTS if known[name] != facts[name]]
    except FileNotFoundError:
        if held := sorted(file.name for file in out.iterdir() if file.name != LOCK):
            raise InputError(
                f"{where}: holds {printable(held[0])}, but no study: choose a new or an empty --out"
            ) from None
        known, methods, differing = facts, {}, []
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{printable(path)}: was not written by salad study: choose another --out") from None
    for name in differing:
        told = f"{FACTS[name]} was {_shown(known[name])}, not {_shown(facts[name])}"
        raise InputError(f"{where}: holds a study of something else ({told}): {way_out}")
    for name, words in facts["methods"].items():
        if methods.setdefault(name, words) != words:
            told = f"the method {name} was '{methods[name]}', not '{words}'"
            raise InputError(f"{where}: holds a study with other options ({told}): {way_out}")
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps({**facts, "methods": methods}, indent=2) + "\n", encoding="utf-8")


def _shown(value: Any) -> str:
    """Show a value of study.json in a message."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items()) or "none"
    return "none" if value is None else str(value)


def lock(out: Path) -> AbstractContextManager[None]:
    """Make the folder of a study, and hold its lock against another start of the same study."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {printable(out)}: cannot be made ({error.strerror}): choose another folder") from None
    return only_one(out / LOCK)
