"""Scores of new images, written line by line as CSV or JSON."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from salad.device import keep_freed_memory
from salad.errors import InputError, StorageError, printable
from salad.images.find import images_below, list_images, watch
from salad.scoring.stream import NOT_CALIBRATED, Scorer, load_scorer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Line of the output; unknown values are None.

    Attributes:
        path: path as given or listed, made `printable`.
        score: anomaly score; larger is more anomalous.
        percentile: share of normal validation images with a lower score, in percent.
        abnormal: True if the score is above the threshold of --specificity.
        seconds: processing time of the image.
        error: reason why the image cannot be read.
        note: doubt about the image, which is scored all the same.
    """

    path: str
    score: float | None
    percentile: float | None
    abnormal: bool | None
    seconds: float
    error: str | None
    note: str | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Images to score, and the output for their lines.

    Attributes:
        paths: files, folders, patterns or "-", see `list_images`.
        watched: folder to `watch` until a signal ends the program; None for none.
        interval: time between two checks of that folder, in seconds.
        normals: folder of normal images to calibrate with; None for the calibration of the checkpoint.
        form: one of `FORMATS`.
        out: output file; None for stdout.
        separator: separator of the paths on stdin.
    """

    paths: tuple[str, ...]
    watched: Path | None
    interval: float
    normals: Path | None
    form: str
    out: Path | None
    separator: bytes


def run_predict(given: dict[str, Any], job: Job) -> None:
    """Score the images of the given paths, then those that arrive in a watched folder.

    Args:
        given: given options of `Config`, by name.
        job: images to score, and the output.

    Raises:
        InputError: paths or checkpoint are missing, or no image can be read.
        StorageError: the output cannot be written.
    """
    if not job.paths and job.watched is None:
        raise InputError("no PATH is given: give files or folders, - for a list of paths on stdin, or --watch FOLDER")
    if given.get("load_model") is None:
        raise InputError("--load_model is missing: give the checkpoint to score with, the model.tar of a run")
    scorer = load_scorer(given["load_model"], given)
    if scorer.model.context.device.type == "cpu":
        keep_freed_memory()
    if job.normals is not None:
        scorer.calibrate(images_below(job.normals))
    scorer.model.log_warnings()
    if scorer.model.held_out is None:
        logger.warning(
            "no percentiles and no threshold: %s; --calibrate FOLDER of normal images sets both", NOT_CALIBRATED
        )
    arriving = watch(job.watched, interval=job.interval) if job.watched else iter(())
    sources = itertools.chain(list_images(job.paths, separator=job.separator), arriving)
    start = time.perf_counter()
    num_rows, num_bad = write(
        rows(scorer, sources, specificity=scorer.config.scoring.specificity), form=job.form, out=job.out
    )
    seconds = time.perf_counter() - start
    speed = f"{num_rows} images in {seconds:.1f} s ({num_rows / seconds:.1f} images/s)"
    click.echo(f"{speed}, {num_bad} of them cannot be read", err=True)
    if num_bad == num_rows:
        raise InputError(f"none of the {num_rows} images can be read" if num_rows else "there are no images")


def rows(scorer: Scorer, sources: Iterable[Path | None], *, specificity: float) -> Iterator[Row]:
    """Score images and make a line of each, see `Scorer.stream`."""
    calibration = scorer.calibration
    threshold = calibration.threshold(specificity) if calibration else 0.0
    for scored in scorer.stream(sources):
        percentile = abnormal = None
        if scored.score is not None and calibration is not None:
            percentile = round(float(calibration.percentile(scored.score)), 3)
            abnormal = scored.score > threshold
        yield Row(
            path=printable(scored.source),
            score=scored.score,
            percentile=percentile,
            abnormal=abnormal,
            seconds=round(scored.seconds, 4),
            error=scored.error,
            note=scored.note,
        )


def write(lines: Iterable[Row], *, form: str, out: Path | None) -> tuple[int, int]:
    """Write lines as they come, each flushed at once.

    If the reader of stdout, such as head, closes the pipe, the program exits silently with the status of SIGPIPE.

    Args:
        lines: lines to write.
        form: one of `FORMATS`.
        out: output file; None for stdout.

    Returns:
        Number of lines, and number of images that cannot be read.

    Raises:
        StorageError: the file cannot be written.
    """
    num_rows = num_bad = 0
    with _opened(out) as send:
        if form == "csv":
            send(_csv_line(Row.__slots__))
        for row in lines:
            num_rows += 1
            num_bad += row.score is None
            send(FORMATS[form](row))
    return num_rows, num_bad


@contextmanager
def _opened(out: Path | None) -> Iterator[Callable[[str], None]]:
    """Open a file or stdout, and yield a function that writes a line to it."""
    file: BinaryIO

    def send(line: str) -> None:
        try:
            file.write(line.encode())
            file.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # else Python prints an error at exit
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            raise _failure(out, error) from None

    if out is None:
        file = sys.stdout.buffer
        yield send
        return
    try:
        file = out.open("wb", buffering=0)
    except OSError as error:
        raise _failure(out, error) from None
    with file:
        yield send


def _failure(out: Path | None, error: OSError) -> StorageError:
    """Make the error of a failed write."""
    return StorageError(f"{printable(out or 'stdout')}: cannot be written ({error.strerror})")


def _csv_line(values: Iterable[object]) -> str:
    """Format values as a line of CSV."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _as_csv(row: Row) -> str:
    """Format a row as CSV; `abnormal` is 0 or 1."""
    values = {**asdict(row), "abnormal": None if row.abnormal is None else int(row.abnormal)}
    return _csv_line(values.values())


def _as_json(row: Row) -> str:
    """Format a row as a JSON object."""
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Row], str]] = {"csv": _as_csv, "jsonl": _as_json}
