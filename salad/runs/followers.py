"""Following a run elsewhere than in metrics.jsonl: TensorBoard event files, and an MLflow server or folder.

Both get every line of metrics.jsonl once, also where a run is resumed or is followed only from then on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import time
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

from salad.errors import InputError, printable
from salad.runs.folder import RunFolder

logger = logging.getLogger(__name__)

EXPERIMENT = "salad"
MAX_PARAM = 500  # characters of a value that every MLflow server takes
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # data are not to leave for anywhere but the address that was given
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a training does not wait for a server that is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}

Line = dict[str, Any]


class Follower(Protocol):
    """Where the lines of metrics.jsonl go, too.

    Attributes:
        known: the epochs that are there from before.
    """

    known: set[int]

    def log(self, line: Line) -> None:
        """Take in an epoch."""

    def close(self, *, is_done: bool) -> None:
        """Write all that is waiting; the run is done, or has stopped."""


def check_packages(*, tensorboard: bool, mlflow: str | None) -> None:
    """Raise `InputError` where a package that the options need is not installed, or an address must not be kept."""
    for package, is_needed in (("tensorboard", tensorboard), ("mlflow", mlflow is not None)):
        if is_needed and importlib.util.find_spec(package) is None:
            raise InputError(f'--{package} needs a package that is not installed: pip install "salad[{package}]"')
    if mlflow is not None and urlsplit(mlflow).password is not None:
        raise InputError(
            "--mlflow holds a password, which would be written into config.json: leave it out and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )


@contextlib.contextmanager
def following(folder: RunFolder, *, tensorboard: bool, mlflow: str | None, options: dict[str, Any]) -> Iterator[None]:
    """While a run goes on, hand over what metrics.jsonl holds and every line that comes.

    What fails later on is left out with a warning, for it must not stop a training; --resume makes up for it.

    Args:
        folder: of the run; nothing is followed by a process that does not write there.
        tensorboard: whether event files are written.
        mlflow: URI of the server, or folder; None without one.
        options: of the run, for MLflow.

    Raises:
        InputError: MLflow cannot be reached when the run starts.
    """
    followers: list[Follower] = []
    if folder.writes and tensorboard:
        followers.append(TensorBoard(folder))
    if folder.writes and mlflow is not None:
        followers.append(_reach(mlflow, options, folder))
    for line in folder.read_metrics() if followers else ():
        _tell(followers, line)
    folder.listeners.append(lambda line: _tell(followers, line))
    is_done = False
    try:
        yield
        is_done = True
    finally:
        for follower in followers:
            with _outlived(follower):
                follower.close(is_done=is_done)


def _reach(uri: str, options: dict[str, Any], folder: RunFolder) -> Follower:
    try:
        return MLflow(uri, options, folder)
    except Exception as error:  # MLflow raises every kind
        raise InputError(f"--mlflow {uri}: cannot be reached ({_reason(error)}); correct it or leave it out") from None


def _tell(followers: list[Follower], line: Line) -> None:
    """Hand a line to the followers that do not know its epoch; those that fail are no longer among them."""
    for follower in [one for one in followers if line["epoch"] not in one.known]:
        with _outlived(follower, among=followers):
            follower.log(line)


@contextlib.contextmanager
def _outlived(follower: Follower, *, among: list[Follower] | None = None) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logger.debug("a follower failed", exc_info=True)
        logger.warning("%s no longer follows this run: %s", type(follower).__name__, _reason(error))
        if among is not None:
            among.remove(follower)


def _reason(error: Exception) -> str:
    return printable(str(error).partition("\n")[0][:200]) or type(error).__name__


class TensorBoard:
    """Event files in XP_PATH/tensorboard."""

    def __init__(self, folder: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.known = {line["epoch"] for line in folder.read_metrics()} if folder.event_files() else set()
        # of an epoch that was written and not saved TensorBoard is to forget what earlier files say
        first = max(self.known, default=0) + 1
        self.writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=first)

    def log(self, line: Line) -> None:
        """One point for each number."""
        for name, value in numbers(line).items():
            self.writer.add_scalar(name, value, global_step=line["epoch"])
        self.writer.flush()

    def close(self, *, is_done: bool) -> None:
        """End the file."""
        self.writer.close()


class MLflow:
    """A run of MLflow, named after the folder, with the options as its parameters; its id is kept in the folder.

    Args:
        uri: a server, or a folder.
        options: of the run.
        folder: of the run.
    """

    def __init__(self, uri: str, options: dict[str, Any], folder: RunFolder) -> None:
        is_folder = urlsplit(uri).scheme in ("", "file")
        for name, value in {**MLFLOW_DEFAULTS, **({"MLFLOW_ALLOW_FILE_STORE": "true"} if is_folder else {})}.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self.client, self.metric = MlflowClient(tracking_uri=uri), Metric
        found = self.client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self.client.create_experiment(EXPERIMENT)
        held = folder.mlflow_run.read_text(encoding="ascii").split() if folder.mlflow_run.exists() else []
        if len(held) == 2 and held[1] == uri:
            self.run: str = held[0]
            self.client.update_run(self.run, "RUNNING")
            self.known = {one.step for one in self.client.get_metric_history(self.run, "loss")}
            return
        self.known = set()
        self.run = self.client.create_run(experiment, run_name=folder.path.resolve().name).info.run_id
        params = [Param(name, str(value)[:MAX_PARAM]) for name, value in options.items()]
        self.client.log_batch(self.run, params=params)
        folder.mlflow_run.write_text(f"{self.run} {uri}\n", encoding="ascii")

    def log(self, line: Line) -> None:
        """All numbers in one request."""
        now = int(time.time() * 1000)
        metrics = [self.metric(name, value, now, line["epoch"]) for name, value in numbers(line).items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self, *, is_done: bool) -> None:
        """Say how the run has ended."""
        self.client.set_terminated(self.run, "FINISHED" if is_done else "KILLED")


def numbers(line: Line) -> dict[str, float]:
    """The finite numbers of a line of metrics.jsonl but for the epoch itself."""
    return {
        name: float(value)
        for name, value in line.items()
        if name != "epoch" and isinstance(value, (int, float)) and math.isfinite(value)
    }
