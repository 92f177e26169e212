"""Run folder XP_PATH: its files, its metrics and its log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import salad
from salad.errors import InputError, StorageError
from salad.runs.atomic import atomic_file

CONFIG_FILE, METRICS_FILE, MODEL_FILE, LAST_FILE = "config.json", "metrics.jsonl", "model.tar", "last.tar"
LOG_FILE, LOCK_FILE = "log.txt", "lock"
EVENT_FOLDER, MLFLOW_FILE = "tensorboard", "mlflow_run"
SCORES_FILE, RESULT_FILE = "scores.csv", "metrics.json"
REPORT_FILE, FIGURES_FOLDER = "report.html", "figures"


class RunFolder:
    """Folder of one run.

    Args:
        path: XP_PATH; created if it is missing.
        writes: True if this process writes to the folder; only one of several processes does.

    Raises:
        InputError: the folder cannot be made or written.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.listeners: list[Callable[[dict[str, Any]], object]] = []  # called with every new line of metrics.jsonl
        if not writes:
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / LOG_FILE).touch()
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another XP_PATH") from None

    @property
    def model(self) -> Path:
        """Checkpoint to score with."""
        return self.path / MODEL_FILE

    @property
    def last(self) -> Path:
        """Checkpoint to resume from, saved after every epoch, on a GPU not every one, and on an interruption."""
        return self.path / LAST_FILE

    @property
    def mlflow_run(self) -> Path:
        """File with the id of the MLflow run."""
        return self.path / MLFLOW_FILE

    def event_files(self) -> list[Path]:
        """List the event files of TensorBoard."""
        return [*(self.path / EVENT_FOLDER).glob("events.out.tfevents.*")]

    def round_model(self, number: int) -> Path:
        """Make the path of the checkpoint of a round."""
        return self.path / f"model_round{number}.tar"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other trainings.

        Raises:
            InputError: another training has locked it.
        """
        if not self.writes:
            yield
            return
        from salad.runs.lock import only_one

        with only_one(self.path / LOCK_FILE):
            yield

    def round_models(self) -> list[Path]:
        """List the existing checkpoints of rounds, in the order of the rounds."""
        rounds = {path.stem.removeprefix("model_round"): path for path in self.path.glob("model_round*.tar")}
        return [rounds[number] for number in sorted(filter(str.isdecimal, rounds), key=int)]

    def checkpoints(self) -> list[Path]:
        """List the existing checkpoints."""
        return [file for file in [*self.path.glob("model*.tar"), self.last] if file.exists()]

    def held_files(self) -> list[Path]:
        """List the existing files of a training run."""
        texts = [self.path / CONFIG_FILE, self.path / METRICS_FILE]
        return [*self.checkpoints(), *filter(Path.exists, texts)]

    def check_free(self) -> None:
        """Raise `InputError` if the folder holds a run."""
        if held := self.held_files():
            raise InputError(
                f"{self.path}: holds a run ({held[0].name}); --resume goes on with it, --overwrite replaces it"
            )

    def clear(self) -> None:
        """Remove the files of a run in the folder, its scores and its report included."""
        scored = [self.path / name for name in (SCORES_FILE, RESULT_FILE, REPORT_FILE)]
        figures = (self.path / FIGURES_FOLDER).glob("*.*")
        for file in [*self.held_files(), *scored, *figures, *self.event_files(), self.mlflow_run]:
            file.unlink(missing_ok=True)

    def keep_newest_rounds(self, count: int | None) -> None:
        """Remove the checkpoints of all but the newest `count` rounds; None keeps all."""
        for file in self.round_models()[: -count if count else 0]:
            file.unlink()

    def write_config(self, options: dict[str, Any], **facts: Any) -> None:
        """Write config.json: options for `--load_config`, and under "run" the command, versions and facts."""
        import torch

        versions = {"salad": salad.__version__, "torch": torch.__version__, "python": platform.python_version()}
        run = {"command": shlex.join(sys.argv), "versions": versions, **facts}
        text = json.dumps({**options, "run": run}, indent=2)
        with atomic_file(self.path / CONFIG_FILE) as path:
            path.write_text(text + "\n", encoding="utf-8")

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl and call the listeners."""
        with _storage(self.path / METRICS_FILE) as path, path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()
            os.fsync(file.fileno())  # must reach the disk before the checkpoint of the epoch
        for listener in self.listeners:
            listener(values)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl; none if the file is missing.

        Raises:
            InputError: a line is damaged.
        """
        return read_metrics(self.path / METRICS_FILE) if (self.path / METRICS_FILE).exists() else []

    def cut_metrics(self, num_epochs: int) -> None:
        """Keep the lines of the first epochs in metrics.jsonl; later lines belong to epochs that were not saved."""
        path = self.path / METRICS_FILE
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        with atomic_file(path) as temporary:
            temporary.write_text("".join(lines[:num_epochs]), encoding="utf-8")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics.jsonl, one for each epoch, without an unfinished last line of a killed run.

    Raises:
        InputError: the file cannot be read, or is not a metrics.jsonl.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
        epochs = [json.loads(line) for line in lines]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # JSON syntax, encoding
        raise InputError(f"{path}: damaged ({error})") from None
    if not all(isinstance(line, dict) and isinstance(line.get("epoch"), int) for line in epochs):
        raise InputError(f"{path}: not a metrics.jsonl of a run: a line has no epoch")
    return epochs


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[Path]:
    """Turn an error of writing a file into a `StorageError`."""
    try:
        yield path
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror}); free disk space, then --resume") from None


def log_to(folder: RunFolder) -> None:
    """Send log messages to stderr and, with times and tracebacks, to log.txt."""
    if not folder.writes:
        return
    logger = logging.getLogger("salad")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    to_screen = logging.StreamHandler()
    to_file = logging.FileHandler(folder.path / LOG_FILE, encoding="utf-8", errors="backslashreplace")
    to_screen.addFilter(lambda record: not getattr(record, "only_in_file", False))
    to_screen.setLevel(logging.INFO)
    to_screen.setFormatter(logging.Formatter("%(message)s"))
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_file.handleError = lambda record: None  # type: ignore[method-assign]  # else a full disk prints an error for every message
    logger.addHandler(to_screen)
    logger.addHandler(to_file)
