"""Command `python -m benchmarks.quality`: table of detection quality, over methods, data sets and seeds.

Runs are those of `salad study`, on several data sets; each also scores jittered copies of the test images, and what
`benchmarks.protocol` adds. No setting is chosen by test results. Finished runs are not repeated, and interrupted runs
are resumed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.protocol import Data, Group, Scoring, across_scorings, enrol_scorings, jitter_scoring
from benchmarks.quality_table import measure, table
from salad.errors import InputError
from salad.runs.folder import RESULT_FILE
from salad.study.jobs import Call, Programs, do_all
from salad.study.plan import Data as PlannedData
from salad.study.plan import Method, Run, plan
from salad.study.results import Row

# Arguments of train besides data set and folders. The recipes paper and released take days at full length, so they
# are shortened to minutes on a CPU.
METHODS = {
    "released-short": "unet --recipe released --isize 64 --n_epochs 1",
    "paper-short": "unet --recipe paper --isize 64 --n_epochs 1",
    "strong": "unet --recipe strong",
    "strong-lite0": "unet --recipe strong --backbone efficientnet_lite0",
}


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """Run of a method on a data set with a seed, and what its model scores besides the test images; a job."""

    data: Data
    run: Run
    scorings: Sequence[Scoring]

    @property
    def name(self) -> str:
        """Folder in that of the benchmark."""
        return f"{self.data.name}/{self.run.name}"

    @property
    def kind(self) -> str:
        """Data set and method, whose runs take about as long."""
        return f"{self.data.name}/{self.run.kind}"

    @property
    def log(self) -> Path:
        """Output of the commands of the run."""
        return self.run.log

    @property
    def seconds(self) -> float | None:
        """Time of training and first scoring; None if it is not known."""
        return self.run.seconds

    @property
    def is_done(self) -> bool:
        """True if the run is finished."""
        return self.run.is_done and all(scoring.is_done(self.run.folder) for scoring in self.scorings)

    def do(self, call: Call) -> bool:
        """Train and score, or finish an interrupted run; return True on success."""
        was_tested, run = self.run.is_done, self.run
        if not was_tested and not run.do(call):
            return False
        missing = [scoring for scoring in self.scorings if not (was_tested and scoring.is_done(run.folder))]
        done = [scoring.do(call, run.folder, net_name=run.method.net_name, log=run.log) for scoring in missing]
        return all(done)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command, see its help."""

    data: tuple[str, ...]
    methods: tuple[str, ...]
    only: tuple[str, ...]
    seeds: tuple[int, ...]
    leave_out: tuple[str, ...]
    across: bool
    enrol: tuple[int, ...]
    jobs: int
    out: Path

    def chosen_methods(self) -> dict[str, str]:
        """Arguments of train by method."""
        if unknown := set(self.only) - METHODS.keys():
            raise click.BadParameter(f"--only is '{unknown.pop()}', but must be one of {', '.join(METHODS)}")
        chosen = {
            name: words for name, words in METHODS.items() if name in self.only or not (self.only or self.methods)
        }
        return chosen | {name: words for name, _, words in (method.partition("=") for method in self.methods)}

    def scorings(self) -> list[tuple[Data, list[Scoring]]]:
        """Prepare the data sets to train on, each with what its models are scored on besides its test images."""
        sources = [Data.parse(text) for text in self.data]
        groups = [Group.parse(text, sources) for text in self.leave_out]
        names = [*(source.name for source in sources), *(group.name for group in groups)]
        if twice := {name for name in names if names.count(name) > 1}:
            raise click.BadParameter(f"--data and --leave_out give the name '{twice.pop()}' twice")
        if self.enrol and not groups:
            raise click.BadParameter("--enrol enrols images of --leave_out, which is not given")
        trained = [data for data in sources if not self.across or is_trainable(data)]
        left_out = [group.write(self.out / group.name) for group in groups]
        if not trained:
            raise click.BadParameter("no --data has training images")
        prepared = []
        for data in (*trained, *left_out):
            folder = self.out / data.name
            across = across_scorings(data, sources) if self.across else []
            enrol = enrol_scorings(data, self.enrol, folder) if self.enrol and data in left_out else []
            prepared.append((data, [jitter_scoring(data, folder), *across, *enrol]))
        return prepared


def is_trainable(data: Data) -> bool:
    """Return True if a data set has training images; say if not."""
    try:
        return bool(data.read("train"))
    except InputError as error:
        click.echo(f"{data.name} is only scored on, because it cannot be trained on ({error})", err=True)
        return False


def plan_all(
    prepared: Sequence[tuple[Data, list[Scoring]]], methods: dict[str, str], seeds: Iterable[int], out: Path
) -> list[ScoredRun]:
    """List all runs, seed by seed, so that a table of few seeds is available early."""
    made = []
    for name, words in methods.items():
        net_name, *options = shlex.split(words)
        made.append(Method(name=name, words=words, net_name=net_name, train=options))
    return [
        ScoredRun(data=data, run=run, scorings=scorings)
        for seed in seeds
        for data, scorings in prepared
        for run in plan([PlannedData(dataset_name=data.dataset_name, path=data.path)], made, [seed], out / data.name)
    ]


def measure_all(
    runs: Sequence[ScoredRun], prepared: Sequence[tuple[Data, list[Scoring]]], methods: dict[str, str]
) -> list[Row]:
    """Collect the rows of the table: for each data set its own test images, then what else has a title."""
    rows = []
    for data, scorings in prepared:
        titles = {"": data.name} | {scoring.folder: scoring.title for scoring in scorings if scoring.title}
        for folder, title in titles.items():
            for method, words in methods.items():
                own = [scored.run for scored in runs if scored.data == data and scored.run.method.name == method]
                if done := [run for run in own if (run.folder / folder / RESULT_FILE).exists()]:
                    facts = {"data": title, "method": method, "words": words, "seeds": [run.seed for run in done]}
                    rows.append({**facts, **measure([run.folder for run in done], folder)})
    return rows


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", "data", multiple=True, required=True, help="Data set, as NAME=DATASET_NAME:PATH; repeatable.")
@click.option(
    "--method", "methods", multiple=True, help="Further method, as NAME='NET_NAME OPTIONS' of train; repeatable."
)
@click.option("--only", multiple=True, help="Built-in method to run; repeatable  [default: all, or none with --method]")
@click.option(
    "--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True, help="Seed; repeatable."
)
@click.option(
    "--leave_out",
    multiple=True,
    help="Further data set, as NAME=DATA:FILE:COLUMN: images of the data set DATA with 1 in a column of FILE (a CSV "
    "file with a column path) are not trained on, and are the test normals; repeatable.",
)
@click.option("--across", is_flag=True, help="Also score the test images of each other --data with each model.")
@click.option(
    "--enrol",
    type=click.IntRange(min=1),
    multiple=True,
    help="Also enrol this number of test normals of each --leave_out, and score the other ones before and after; "
    "repeatable.",
)
@click.option("--jobs", default=1, show_default=True, help="Number of runs at a time; they share the cores.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("log/quality"), show_default=True)
def main(**given: Any) -> None:
    """Train and test methods with several seeds, and print a table of their AUCs."""
    options = Options(**given)
    methods = options.chosen_methods()
    try:
        prepared = options.scorings()
    except InputError as error:
        raise click.BadParameter(str(error)) from None
    runs = plan_all(prepared, methods, options.seeds, options.out)
    failures = do_all(runs, Programs(at_once=options.jobs), at_once=options.jobs)
    rows = measure_all(runs, prepared, methods)
    (options.out / "quality.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if rows:
        click.echo(table(rows))
    for failure in failures:
        click.echo(f"{failure.job.name} failed: {failure.reason} (see {failure.job.log})", err=True)
    if failures:
        raise click.ClickException(f"{len(failures)} of {len(runs)} runs failed; the table holds what is done")


if __name__ == "__main__":
    main()
