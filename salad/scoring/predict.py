"""Scores of new images, written line by line as CSV or JSON."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from salad.device import keep_freed_memory
from salad.errors import InputError, printable, say
from salad.images.dicom_tags import Tag
from salad.images.find import images_below, list_images
from salad.runs.outputs import begins_with, check_output, is_special, is_text
from salad.scoring.earlier_results import scored_with, shown_folder
from salad.scoring.film_log import DriftWatch
from salad.scoring.lines import is_stdout, no_images, open_lines, whole_length
from salad.scoring.row import Form, Row
from salad.scoring.row_maker import RowMaker
from salad.scoring.stream import NOT_CALIBRATED, Scored, Scorer, load_scorer
from salad.scoring.watch import Watch, check_folder
from salad.scoring.watch_state import WatchState

logger = logging.getLogger(__name__)

STATE_SUFFIX = ".state"
PAGE = b"<!DOCTYPE html>"  # beginning of a page


@dataclass(frozen=True, kw_only=True)
class Job:
    """Images to score, and the output for their lines.

    Attributes:
        paths: files, folders, patterns or "-", see `list_images`.
        watched: folder to watch until a signal ends the program, see `Watch`; None for none.
        interval: time between two checks of that folder, in seconds.
        state: file to remember the watched films in  [default: beside `out`]
        normals: folder of normal images to calibrate with; None for the calibration of the checkpoint.
        form: one of `FORMATS`.
        out: output file; None for stdout.
        append: True to write to the end of `out`.
        separator: separator of the paths on stdin.
        tags: elements of DICOM files for further columns.
        heatmaps: folder for a picture of each image; None for no pictures.
        report: file for a page of the images; None for no page.
    """

    paths: tuple[str, ...]
    watched: Path | None
    interval: float
    state: Path | None
    normals: Path | None
    form: str
    out: Path | None
    append: bool
    separator: bytes
    tags: tuple[Tag, ...] = ()
    heatmaps: Path | None = None
    report: Path | None = None

    @property
    def line_form(self) -> Form:
        """Format of the lines, with their further columns."""
        return Form(self.form, tuple(tag.name for tag in self.tags))

    @property
    def state_file(self) -> Path | None:
        """File to remember the watched films in; None without one."""
        if self.watched is None or self.state is not None or self.out is None:
            return self.state
        is_file = not is_special(self.out) and not is_stdout(self.out)
        return self.out.with_name(f"{self.out.name}{STATE_SUFFIX}") if is_file else None

    def check(self) -> None:
        """Raise `InputError` if the options do not fit together, or the output cannot be written."""
        if not self.paths and self.watched is None:
            raise InputError(
                "no PATH is given: give files or folders, - for a list of paths on stdin, or --watch FOLDER"
            )
        if self.append and self.out is None:
            raise InputError("--append writes to the end of a file: give --out FILE, too")
        if self.state is not None and self.watched is None:
            raise InputError("--state remembers the films of a watched folder: give --watch FOLDER, too")
        for flag, folder in (("--watch", self.watched), ("--calibrate", self.normals)):
            if folder is not None:
                check_folder(folder, flag=flag)

    def check_out(self, model: Path) -> None:
        """Raise `InputError` if the output or the state file cannot be written, or would replace something else."""
        out, state, report = self.out, self.state_file, self.report
        inputs = [model, *map(Path, self.paths)]
        if report is not None:
            check_output(report, flag="--report", inputs=[*inputs, *([out] if out else [])])
            if report.exists() and not begins_with(report, PAGE):
                raise InputError(
                    f"--report {printable(report)}: is no page, and would be replaced: choose another name"
                )
        if self.heatmaps is not None:
            self._check_heatmaps(self.heatmaps)
        if state is not None:
            check_output(state, flag="--state", inputs=[model, *([out] if out else [])])
        if out is None or is_stdout(out):
            return
        check_output(out, inputs=inputs)
        if is_special(out):
            return
        if self.append:
            whole_length(out, self.line_form)
        elif self.watched is not None and out.exists() and out.stat().st_size:
            raise InputError(f"--out {printable(out)}: exists; --append goes on with it, or choose another file")
        elif self.watched is not None and state is not None and state.exists():
            raise InputError(
                f"{printable(state)}: remembers the films of an earlier watch; --append goes on from it, or remove it"
            )
        elif not is_text(out):
            raise InputError(f"--out {printable(out)}: is no text file, which it would replace: choose another name")

    def _check_heatmaps(self, folder: Path) -> None:
        """Raise `InputError` if the pictures would be among the images to score."""
        for source in (*map(Path, self.paths), *([self.watched] if self.watched else [])):
            if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
                raise InputError(
                    f"--heatmaps {printable(folder)}: lies in {printable(source)}, whose images are scored: choose "
                    "another folder"
                )


class Outlet(Protocol):
    """Output of predict beside its lines."""

    def take(self, scored: Scored, row: Row) -> None:
        """Take an image, before its line is written."""

    def close(self) -> None:
        """Finish the output, once all lines are written."""


def given_model(given: dict[str, Any]) -> Path:
    """Return the checkpoint to score with, or raise `InputError` if none is given."""
    if given.get("load_model") is None:
        raise InputError("--load_model is missing: give the checkpoint to score with, the model.tar of a run")
    model: Path = given["load_model"]
    return model


def run_predict(
    given: dict[str, Any], job: Job, make_outlets: Callable[[Job, Scorer], Sequence[Outlet]] = lambda *_: ()
) -> None:
    """Score the images of the given paths, then those that arrive in a watched folder.

    Args:
        given: given options of `Config`, by name.
        job: images to score, and the output.
        make_outlets: makes the further outputs of a job.

    Raises:
        InputError: paths or checkpoint are missing, the output would replace something else, or no image can be read.
        StorageError: the output cannot be written.
    """
    job.check()
    job.check_out(given_model(given))
    scorer = load_scorer(given_model(given), given)
    scorer.tags = job.tags
    if scorer.model.context.device.type == "cpu":
        keep_freed_memory()
    if job.normals is not None:
        scorer.calibrate(images_below(job.normals))
    scorer.model.log_warnings()
    if scorer.model.held_out is None:
        logger.warning(
            "no percentiles and no threshold: %s; --calibrate FOLDER of normal images sets both", NOT_CALIBRATED
        )
    watch = _make_watch(job, scorer)
    sources: Iterable[Path | None] = list_images(job.paths, separator=job.separator)
    if watch is not None:
        sources = itertools.chain(watch.also(sources), watch.films())
    lookout = DriftWatch(scorer.films, scorer.model.held_out, logger.warning) if watch is not None else None
    start = time.perf_counter()
    grows = job.append or watch is not None
    outlets = make_outlets(job, scorer)
    with _summary(watch, scorer, outlets), open_lines(job.out, form=job.line_form, append=grows) as lines:
        for scored, row in score_films(scorer, sources, watch=watch):
            for outlet in outlets:
                outlet.take(scored, row)
            lines.send(row)
            if lookout is not None:
                lookout.look()
    seconds = time.perf_counter() - start
    speed = f"{lines.num_rows} images in {seconds:.1f} s ({lines.num_rows / seconds:.1f} images/s)"
    _say_drift(scorer)
    say(f"{speed}, {lines.num_bad} of them cannot be read")
    if lines.num_bad == lines.num_rows:
        raise no_images(lines)
    for outlet in outlets:
        outlet.close()


def score_films(
    scorer: Scorer, sources: Iterable[Path | None], *, watch: Watch | None = None
) -> Iterator[tuple[Scored, Row]]:
    """Score images and make a line of each, see `Scorer.stream`.

    Args:
        scorer: scorer of the images.
        sources: images; None before a wait.
        watch: watch that some of the images come from; it remembers an image when the next line is asked for.
    """
    maker = RowMaker(scorer, specificity=scorer.config.scoring.specificity)
    for scored in scorer.stream(sources):
        path = scored.source
        assert isinstance(path, Path), "sources are paths"
        if watch is not None and watch.has_changed(path):
            continue  # the score may be that of a half-written file
        yield scored, maker.make(scored, path=printable(path), note=watch.note(path) if watch else None)
        if watch is not None:
            watch.remember(path, is_bad=scored.score is None)


def _make_watch(job: Job, scorer: Scorer) -> Watch | None:
    """Make the watch of a job, which goes on from its state file; None without a watched folder."""
    if job.watched is None:
        return None
    facts = {**scored_with(scorer.config, scorer.checkpoint), "calibrate": shown_folder(job.normals)}
    _say_what_was_removed(job)
    state = WatchState(job.state_file, folder=job.watched, facts=facts)
    return Watch(job.watched, interval=job.interval, state=state, say=say)


def _say_what_was_removed(job: Job) -> None:
    """Warn where a watch goes on with its output or its state file alone."""
    out, state = job.out, job.state_file
    if not job.append or out is None or state is None:
        return
    if state.exists() and not out.exists():
        logger.warning(
            "%s: is new: the films in %s are not scored again; remove both to score them",
            printable(out),
            printable(state),
        )
    elif out.exists() and out.stat().st_size and not state.exists():
        logger.warning("%s: is missing: all films are scored, also those in %s", printable(state), printable(out))


@contextlib.contextmanager
def _summary(watch: Watch | None, scorer: Scorer, outlets: Sequence[Outlet]) -> Iterator[None]:
    """Show the summary of a watch at its end; where a signal ends it, as usual, finish its further outputs, too."""
    try:
        yield
    except KeyboardInterrupt:
        if watch is not None:
            for outlet in outlets:
                outlet.close()
        raise
    finally:
        if watch is not None:
            _say_drift(scorer)
            say(watch.summary())


def _say_drift(scorer: Scorer) -> None:
    """Say if the films that were scored last are of the kind of the calibration; nothing if there are none."""
    for line in drift_lines(scorer):
        say(f"drift: {line}")


def drift_lines(scorer: Scorer) -> list[str]:
    """Say in lines if the films that were scored last are of the kind of the calibration; none if there are none."""
    drift = scorer.drift
    lines = [*drift.lines] if drift else []
    if scorer.strange:
        counts = ", ".join(f"{what} ({number})" for what, number in scorer.strange.most_common())
        lines.append(f"films of a kind that the model was not trained on: {counts}; the column note tells which")
    return lines
