"""Followers of a run: TensorBoard event files, and an MLflow server or folder.

Each gets every line of metrics.jsonl once, even if the run is resumed or was started without followers.
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
from salad.packages import install_command
from salad.runs.folder import RunFolder

logger = logging.getLogger(__name__)

EXPERIMENT = "salad"
MAX_PARAM = 500  # characters; the longest value that every MLflow server accepts
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # send data to the given address only
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # do not delay a training for a server that is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}

Line = dict[str, Any]


class Follower(Protocol):
    """Receiver of the lines of metrics.jsonl.

    Attributes:
        known: epochs received in earlier runs.
    """

    known: set[int]

    def log(self, line: Line) -> None:
        """Send the line of an epoch."""

    def close(self, *, is_done: bool) -> None:
        """Write pending data and mark the run as done or stopped."""


def check_packages(*, tensorboard: bool, mlflow: str | None) -> None:
    """Raise `InputError` where a package for the options is not installed, or the MLflow address holds a password."""
    for package, is_needed in (("tensorboard", tensorboard), ("mlflow", mlflow is not None)):
        if is_needed and importlib.util.find_spec(package) is None:
            raise InputError(f"--{package} needs a package that is not installed: {install_command(package)}")
    if mlflow is not None and urlsplit(mlflow).password is not None:
        raise InputError(
            "--mlflow holds a password, which would be written into config.json: leave it out and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )


@contextlib.contextmanager
def following(folder: RunFolder, *, tensorboard: bool, mlflow: str | None, options: dict[str, Any]) -> Iterator[None]:
    """Send the existing and all new lines of metrics.jsonl to the followers of a run.

    A follower that fails later is dropped with a warning, so that the training continues; --resume sends the missing
    lines.

    Args:
        folder: folder of the run; only the process that writes to it has followers.
        tensorboard: whether event files are written.
        mlflow: URI of the server, or folder; None without one.
        options: options of the run, for MLflow.

    Raises:
        InputError: MLflow cannot be reached when the run starts.
    """
    followers: list[Follower] = []
    if folder.writes and tensorboard:
        followers.append(TensorBoard(folder))
    if folder.writes and mlflow is not None:
        followers.append(_connect(mlflow, options, folder))
    for line in folder.read_metrics() if followers else ():
        _send(followers, line)
    folder.listeners.append(lambda line: _send(followers, line))
    is_done = False
    try:
        yield
        is_done = True
    finally:
        for follower in followers:
            with _tolerating(follower):
                follower.close(is_done=is_done)


def _connect(uri: str, options: dict[str, Any], folder: RunFolder) -> Follower:
    """Connect to MLflow.

    Raises:
        InputError: it cannot be reached.
    """
    try:
        return MLflow(uri, options, folder)
    except Exception as error:  # MLflow raises errors of many types
        raise InputError(f"--mlflow {uri}: cannot be reached ({_reason(error)}); correct it or leave it out") from None


def _send(followers: list[Follower], line: Line) -> None:
    """Send a line to the followers that do not know its epoch, and drop those that fail."""
    for follower in [follower for follower in followers if line["epoch"] not in follower.known]:
        with _tolerating(follower, among=followers):
            follower.log(line)


@contextlib.contextmanager
def _tolerating(follower: Follower, *, among: list[Follower] | None = None) -> Iterator[None]:
    """Turn an error of a follower into a warning, and drop the follower from a list."""
    try:
        yield
    except Exception as error:
        logger.debug("a follower failed", exc_info=True)
        logger.warning("%s no longer follows this run: %s", type(follower).__name__, _reason(error))
        if among is not None:
            among.remove(follower)


def _reason(error: Exception) -> str:
    """Shorten the message of an error to one line."""
    return printable(str(error).partition("\n")[0][:200]) or type(error).__name__


class TensorBoard:
    """Event files in XP_PATH/tensorboard."""

    def __init__(self, folder: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.known = {line["epoch"] for line in folder.read_metrics()} if folder.event_files() else set()
        # TensorBoard drops earlier points of an epoch that was logged but not saved
        first = max(self.known, default=0) + 1
        self.writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=first)

    def log(self, line: Line) -> None:
        """Write a point for each number."""
        for name, value in numbers(line).items():
            self.writer.add_scalar(name, value, global_step=line["epoch"])
        self.writer.flush()

    def close(self, *, is_done: bool) -> None:
        """Close the event file."""
        self.writer.close()


class MLflow:
    """MLflow run, named after the run folder, with the options as parameters; the folder keeps its id.

    Args:
        uri: URI of a server, or a folder.
        options: options of the run.
        folder: folder of the run.
    """

    def __init__(self, uri: str, options: dict[str, Any], folder: RunFolder) -> None:
        is_folder = urlsplit(uri).scheme in ("", "file")
        for name, value in {**MLFLOW_DEFAULTS, **({"MLFLOW_ALLOW_FILE_STORE": "true"} if is_folder else {})}.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self.client, self.metric = MlflowClient(tracking_uri=uri), Metric
        existing = self.client.get_experiment_by_name(EXPERIMENT)
        experiment = existing.experiment_id if existing else self.client.create_experiment(EXPERIMENT)
        saved = folder.mlflow_run.read_text(encoding="ascii").split() if folder.mlflow_run.exists() else []
        if len(saved) == 2 and saved[1] == uri:
            self.run: str = saved[0]
            self.client.update_run(self.run, "RUNNING")
            self.known = {metric.step for metric in self.client.get_metric_history(self.run, "loss")}
            return
        self.known = set()
        self.run = self.client.create_run(experiment, run_name=folder.path.resolve().name).info.run_id
        params = [Param(name, str(value)[:MAX_PARAM]) for name, value in options.items()]
        self.client.log_batch(self.run, params=params)
        folder.mlflow_run.write_text(f"{self.run} {uri}\n", encoding="ascii")

    def log(self, line: Line) -> None:
        """Send all numbers in one request."""
        now = int(time.time() * 1000)
        metrics = [self.metric(name, value, now, line["epoch"]) for name, value in numbers(line).items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self, *, is_done: bool) -> None:
        """Set the final status of the run."""
        self.client.set_terminated(self.run, "FINISHED" if is_done else "KILLED")


def numbers(line: Line) -> dict[str, float]:
    """Collect the finite numbers of a line of metrics.jsonl, except the epoch."""
    return {
        name: float(value)
        for name, value in line.items()
        if name != "epoch" and isinstance(value, (int, float)) and math.isfinite(value)
    }
