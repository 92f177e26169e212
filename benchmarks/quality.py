"""Command `python -m benchmarks.quality`: table of detection quality, over methods, data sets and seeds.

Each run calls main.py once, and test.py for its test images, for jittered copies of them, and for what
`benchmarks.protocol` adds. No setting is chosen by test results. Finished runs are not repeated, and interrupted runs
are resumed.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.protocol import QUIET, Call, Data, Group, Scoring, across_scorings, enrol_scorings, jitter_scoring
from benchmarks.quality_table import TIMES, measure, table
from salad.errors import InputError
from salad.runs.folder import RESULT_FILE

ROOT = Path(__file__).resolve().parent.parent
# Arguments of main.py besides data set and folders. The recipes paper and released take days at full length, so they
# are shortened to minutes on a CPU.
METHODS = {
    "released-short": "unet --recipe released --isize 64 --n_epochs 1",
    "paper-short": "unet --recipe paper --isize 64 --n_epochs 1",
    "strong": "unet --recipe strong",
    "strong-lite0": "unet --recipe strong --backbone efficientnet_lite0",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run of a method on a data set with a seed, its folder, and what is scored besides the test images."""

    data: Data
    method: str
    words: str
    seed: int
    folder: Path
    scorings: Sequence[Scoring]

    @property
    def is_tested(self) -> bool:
        """True if the model is trained, and scored on the test images."""
        return (self.folder / RESULT_FILE).exists()

    @property
    def is_done(self) -> bool:
        """True if the run is finished."""
        return self.is_tested and all(scoring.is_done(self.folder) for scoring in self.scorings)

    def do(self, call: Call) -> bool:
        """Train and score, or finish an interrupted run; return True on success."""
        net_name, *options = shlex.split(self.words)
        log, was_tested = self.folder / "said.txt", self.is_tested
        if not was_tested and not self._train(call, net_name, options, log=log):
            return False
        missing = [scoring for scoring in self.scorings if not (was_tested and scoring.is_done(self.folder))]
        done = [scoring.do(call, self.folder, net_name=net_name, log=log) for scoring in missing]
        return all(done)

    def _train(self, call: Call, net_name: str, options: list[str], *, log: Path) -> bool:
        """Train, and score the test images; return True on success."""
        arguments = [self.data.dataset_name, net_name, str(self.folder), str(self.data.path)]
        was_begun = self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        seed, keep = ["--seed", str(self.seed)], ["--keep", "1"]  # else the checkpoints of all rounds fill gigabytes
        start = time.perf_counter()
        if not call("main.py", [*arguments, *keep, *options, *seed, "--resume", "auto"], log):
            return False
        trained = time.perf_counter()
        if not call("test.py", [*arguments, *seed, *QUIET], log):
            return False
        seconds = {"train": trained - start, "test": time.perf_counter() - trained}
        if not was_begun:  # else the time before the interruption is missing
            (self.folder / TIMES).write_text(json.dumps(seconds), encoding="utf-8")
        return True


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
        """Arguments of main.py by method."""
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


def plan(
    prepared: Sequence[tuple[Data, list[Scoring]]], methods: dict[str, str], seeds: Iterable[int], out: Path
) -> list[Run]:
    """List all runs, seed by seed, so that a table of few seeds is available early."""
    return [
        Run(
            data=data,
            method=method,
            words=words,
            seed=seed,
            folder=out / data.name / method / f"seed{seed}",
            scorings=scorings,
        )
        for seed in seeds
        for data, scorings in prepared
        for method, words in methods.items()
    ]


def call_program(program: str, words: list[str], log: Path, *, num_threads: int) -> bool:
    """Run a program in a separate process, with its output in a log file; return True on success."""
    places = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "OMP_NUM_THREADS": str(num_threads), "PYTHONPATH": places}
    start = [str(ROOT / program)] if program.endswith(".py") else ["-m", program]
    with log.open("a", encoding="utf-8") as file:
        command = [sys.executable, *start, *words]
        return subprocess.run(command, stdout=file, stderr=file, env=env, check=False).returncode == 0


def do_all(runs: list[Run], call: Call, *, jobs: int) -> list[Run]:
    """Do the unfinished runs, several at a time; return those that failed."""
    missing = [run for run in runs if not run.is_done]

    def do(run: Run) -> bool:
        is_well = run.do(call)
        click.echo(f"{run.folder}: {'done' if is_well else 'failed, see said.txt there'}", err=True)
        return is_well

    with ThreadPoolExecutor(jobs) as pool:
        return [run for run, is_well in zip(missing, pool.map(do, missing), strict=True) if not is_well]


def measure_all(
    runs: Sequence[Run], prepared: Sequence[tuple[Data, list[Scoring]]], methods: dict[str, str]
) -> list[dict[str, Any]]:
    """Collect the rows of the table: for each data set its own test images, then what else has a title."""
    rows = []
    for data, scorings in prepared:
        titles = {"": data.name} | {scoring.folder: scoring.title for scoring in scorings if scoring.title}
        for folder, title in titles.items():
            for method, words in methods.items():
                own = [run for run in runs if run.data == data and run.method == method]
                if scored := [run for run in own if (run.folder / folder / RESULT_FILE).exists()]:
                    facts = {"data": title, "method": method, "words": words, "seeds": [run.seed for run in scored]}
                    rows.append({**facts, **measure([run.folder for run in scored], folder)})
    return rows


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", "data", multiple=True, required=True, help="Data set, as NAME=DATASET_NAME:PATH; repeatable.")
@click.option(
    "--method", "methods", multiple=True, help="Further method, as NAME='NET_NAME OPTIONS' for main.py; repeatable."
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
    runs = plan(prepared, methods, options.seeds, options.out)
    num_threads = max(1, (os.cpu_count() or 1) // options.jobs)
    failed = do_all(runs, lambda *words: call_program(*words, num_threads=num_threads), jobs=options.jobs)
    rows = measure_all(runs, prepared, methods)
    (options.out / "quality.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if rows:
        click.echo(table(rows))
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(runs)} runs failed; the table holds what is done")


if __name__ == "__main__":
    main()
