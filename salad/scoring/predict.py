"""Scores of new images, written line by line."""

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
    """A line of the output; None where there is nothing to say.

    Attributes:
        path: as it was given or found, `printable`.
        score: larger is more anomalous.
        percentile: share of normal validation images below the score, in percent.
        abnormal: whether it is above the threshold that --specificity of them do not exceed.
        seconds: of work on the image.
        error: why it could not be read.
    """

    path: str
    score: float | None
    percentile: float | None
    abnormal: bool | None
    seconds: float
    error: str | None


def run_predict(
    given: dict[str, Any],
    *,
    paths: tuple[str, ...],
    watched: Path | None,
    interval: float,
    normals: Path | None,
    form: str,
    out: Path | None,
    separator: bytes,
) -> None:
    """Score what the words stand for, then what arrives in a folder.

    Args:
        given: options of `Config` that were given, by name.
        paths: see `list_images`.
        watched: a folder to `watch` until a signal ends the program.
        interval: between two looks into it, in seconds.
        normals: a folder of normal images to calibrate with.
        form: one of `FORMATS`.
        out: file to write; None for stdout.
        separator: of the paths on stdin.

    Raises:
        InputError: there is nothing to score or with, or no image could be read.
        StorageError: the file cannot be written.
    """
    if not paths and watched is None:
        raise InputError("no PATH is given: name files or folders, - for a list of them on stdin, or --watch a folder")
    if given.get("load_model") is None:
        raise InputError("--load_model is missing: give the checkpoint to score with, the model.tar of a run")
    scorer = load_scorer(given["load_model"], given)
    if scorer.model.context.device.type == "cpu":
        keep_freed_memory()
    if normals is not None:
        scorer.calibrate(images_below(normals))
    if scorer.calibration is None:
        logger.warning(
            "no percentiles and no flags: %s; --calibrate FOLDER of normal images gives both", NOT_CALIBRATED
        )
    arriving = watch(watched, interval=interval) if watched else iter(())
    sources = itertools.chain(list_images(paths, separator=separator), arriving)
    start = time.perf_counter()
    num_rows, num_bad = write(rows(scorer, sources, specificity=scorer.config.scoring.specificity), form=form, out=out)
    seconds = time.perf_counter() - start
    speed = f"{num_rows} images in {seconds:.1f} s ({num_rows / seconds:.1f} images/s)"
    click.echo(f"{speed}, {num_bad} of them cannot be read", err=True)
    if num_bad == num_rows:
        raise InputError(f"none of the {num_rows} images can be read" if num_rows else "there are no images")


def rows(scorer: Scorer, sources: Iterable[Path | None], *, specificity: float) -> Iterator[Row]:
    """Score images; see `Scorer.stream`."""
    calibration = scorer.calibration
    threshold = calibration.threshold(specificity) if calibration else 0.0
    for one in scorer.stream(sources):
        percentile = abnormal = None
        if one.score is not None and calibration is not None:
            percentile = round(float(calibration.percentile(one.score)), 3)
            abnormal = one.score > threshold
        yield Row(
            path=printable(one.source),
            score=one.score,
            percentile=percentile,
            abnormal=abnormal,
            seconds=round(one.seconds, 4),
            error=one.error,
        )


def write(lines: Iterable[Row], *, form: str, out: Path | None) -> tuple[int, int]:
    """Write lines, each at once.

    A reader that has closed the pipe, as head does, ends the program without a word, with the status of SIGPIPE.

    Args:
        lines: what to write.
        form: one of `FORMATS`.
        out: the file; None for stdout.

    Returns:
        How many lines there were, and how many of them say that an image cannot be read.

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
    """A function that writes a line to a file, or to stdout."""
    file: BinaryIO

    def send(line: str) -> None:
        try:
            file.write(line.encode())
            file.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # else Python complains when it ends
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
    return StorageError(f"{printable(out or 'stdout')}: cannot be written ({error.strerror})")


def _csv_line(values: Iterable[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _as_csv(row: Row) -> str:
    values = {**asdict(row), "abnormal": None if row.abnormal is None else int(row.abnormal)}
    return _csv_line(values.values())


def _as_json(row: Row) -> str:
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Row], str]] = {"csv": _as_csv, "jsonl": _as_json}
