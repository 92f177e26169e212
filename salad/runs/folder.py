"""Run folder XP_PATH: its files, its metrics and its log."""

from __future__ import annotations

import contextlib
import errno
import itertools
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
from salad.errors import InputError, StoppedError, StorageError
from salad.input_files import parse_json, read_input
from salad.runs.atomic import atomic_file
from salad.runs.log import log_to_file

CONFIG_FILE, METRICS_FILE, MODEL_FILE, LAST_FILE = "config.json", "metrics.jsonl", "model.tar", "last.tar"
LOG_FILE, LOCK_FILE = "log.txt", "lock"
EVENT_FOLDER, MLFLOW_FILE = "tensorboard", "mlflow_run"
SCORES_FILE, RESULT_FILE = "scores.csv", "metrics.json"
REPORT_FILE, FIGURES_FOLDER = "report.html", "figures"
CARD_FILE, CARD_MARK = "model_card.md", "<!-- by test.py of salad: replaced by the next scoring into this folder -->"
FILES = (
    CONFIG_FILE,
    METRICS_FILE,
    MODEL_FILE,
    LAST_FILE,
    LOG_FILE,
    LOCK_FILE,
    MLFLOW_FILE,
    SCORES_FILE,
    RESULT_FILE,
    REPORT_FILE,
    CARD_FILE,
)


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
        self.has_details = False  # True once log.txt holds what the screen refers to it for
        self.listeners: list[Callable[[dict[str, Any]], object]] = []  # called with every new line of metrics.jsonl
        if not writes:
            return
        log = path / LOG_FILE
        try:
            self._made = make_folder(path)
            self._before = {file.name for file in path.iterdir()}
            for file in map(path.joinpath, FILES):
                if os.path.lexists(file) and not file.is_file():  # noqa: PTH110  # a pipe would block
                    raise InputError(f"{file}: is no regular file; remove it, or choose another folder")
            log.touch()
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Remove what this start has made in the folder, and the folder, if it stops before it has written a file."""
        try:
            yield
        except (StoppedError, KeyboardInterrupt):
            if self.writes and not self.has_details:
                self._remove_traces()
            raise

    def _remove_traces(self) -> None:
        """Remove the folders and the log that this start has made, if it has written nothing else."""
        new = [path for path in self.path.iterdir() if path.name not in self._before]
        with contextlib.suppress(OSError):  # a folder that is not empty
            for path in [path for path in new if path.is_dir()]:
                path.rmdir()
                new.remove(path)
            if [path.name for path in new] in ([], [LOG_FILE]):
                for path in new:
                    path.unlink()
                for path in reversed(self._made):
                    path.rmdir()

    def note_details(self, record: logging.LogRecord) -> bool:
        """Note if log.txt gets details that messages refer to; every record passes."""
        self.has_details |= hasattr(record, "only_in_file")
        return True

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
        """Raise `InputError` if the folder holds a run, or results of test.py, which a new run would remove."""
        if held := self.held_files():
            raise InputError(
                f"{self.path}: holds a run ({held[0].name}); --resume goes on with it, --overwrite replaces it"
            )
        self.check_no_results()

    def check_no_results(self) -> None:
        """Raise `InputError` if the folder holds results of test.py."""
        if results := self.results():
            raise InputError(
                f"{self.path}: holds results of test.py ({results[0].name}) without their run; --overwrite removes "
                "them, or choose another XP_PATH"
            )

    def clear(self) -> None:
        """Remove the files of a run in the folder, its scores and its report included."""
        for file in [*self.held_files(), *self.event_files(), self.mlflow_run]:
            file.unlink(missing_ok=True)
        for file in self.results():
            file.unlink(missing_ok=True)
        self.clear_report()

    def clear_report(self) -> None:
        """Remove the report, its figures, and the model card if test.py has written it."""
        card = [file for file in results_in(self.path) if file.name == CARD_FILE]
        for file in [self.path / REPORT_FILE, *(self.path / FIGURES_FOLDER).glob("*.*"), *card]:
            file.unlink(missing_ok=True)

    def results(self) -> list[Path]:
        """List the existing files of test.py, without figures."""
        return results_in(self.path)

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
        try:
            lines = read_input(path).splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        with atomic_file(path) as temporary:
            temporary.write_bytes(b"".join(lines[:num_epochs]))


def results_in(folder: Path) -> list[Path]:
    """List the existing files of test.py in a folder, without figures; a model card of the user's own is none."""
    names = (SCORES_FILE, RESULT_FILE, REPORT_FILE, *([CARD_FILE] if is_own_card(folder / CARD_FILE) else []))
    return [file for name in names if (file := folder / name).exists()]


def is_own_card(path: Path) -> bool:
    """Check that a model card begins with the line of test.py, without which it belongs to the user."""
    try:
        return read_input(path).startswith(CARD_MARK.encode())
    except (OSError, ValueError):
        return False


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it that are missing, at any depth.

    Returns:
        The folders that were made, the uppermost first.

    Raises:
        OSError: a folder cannot be made.
    """
    missing = list(itertools.takewhile(lambda folder: not folder.exists(), [path, *path.parents]))
    made = missing[::-1]
    for folder in made:
        folder.mkdir(exist_ok=True)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
    return made


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics.jsonl, one for each epoch, without an unfinished last line of a killed run.

    Raises:
        InputError: the file cannot be read, or is not a metrics.jsonl.
    """
    try:
        *lines, _ = read_input(path).split(b"\n")
        epochs = [parse_json(line, allow_nan=True) for line in lines]
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
    """Send log messages to stderr and to log.txt of a folder that this process writes to."""
    if folder.writes and (handler := log_to_file(folder.path / LOG_FILE)):
        handler.addFilter(folder.note_details)
