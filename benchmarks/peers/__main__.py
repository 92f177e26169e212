"""Command `python -m benchmarks.peers`: the program beside its peers on the same images, as a page and a CSV file.

Every method runs in a process of its own, on one thread. What is done is not repeated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.peers.films import Films, link
from benchmarks.peers.fitted import features_folder
from benchmarks.peers.methods import DEFAULT, METHODS
from benchmarks.peers.odd_files import ODD_FILE, odd_table
from benchmarks.peers.page import Cell, compose, csv_rows, measure_cells
from benchmarks.peers.weights import check_equal, use_hub
from benchmarks.protocol import Data, Group
from salad.errors import InputError, say
from salad.runs.csv_file import write_csv
from salad.runs.lock import only_one
from salad.study.jobs import IMPORTS, last_line, shown_time

ODD = "odd"  # folder of the odd files
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command, see its help."""

    data: tuple[str, ...]
    leave_out: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    minutes: float
    out: Path

    def link_data(self) -> dict[str, Films]:
        """Link the images of all data sets, by name."""
        sources = [Data.parse(text) for text in self.data]
        groups = [Group.parse(text, sources) for text in self.leave_out]
        names = [*(source.name for source in sources), *(group.name for group in groups)]
        if twice := {name for name in names if names.count(name) > 1}:
            raise click.BadParameter(f"--data and --leave_out give the name '{twice.pop()}' twice")
        made = [*sources, *(group.write(self.out / group.name) for group in groups)]
        return {data.name: link(data, self.out / data.name / "films") for data in made}

    def cells(self, data: dict[str, Films]) -> list[Cell]:
        """List the cells, seed by seed, so that a page of the first seed is available early."""
        return [
            Cell(name, films, method, seed, self.out / name / method / f"seed{seed}")
            for seed in self.seeds
            for name, films in data.items()
            for method in self.methods
            if METHODS[method].is_random or seed == self.seeds[0]
        ]


def fill(cell: Cell, minutes: float) -> None:
    """Train and score a method in a process of its own; a failure becomes the reason in its file."""
    cell.xp.mkdir(parents=True, exist_ok=True)
    words = ["cell", str(cell.films.folder), cell.method, str(cell.seed), str(cell.xp)]
    features = ["features", str(cell.films.folder), str(features_folder(cell.xp))]
    calls = [features] if cell.needs_features else []
    for called in [*calls, words]:
        reason = _call(called, cell.log, minutes)
        if reason:
            cell.file.write_text(json.dumps({"failed": reason}), encoding="utf-8")
            return


def _call(words: Sequence[str], log: Path, minutes: float) -> str:
    """Run a module of this room, and return why it failed; empty on success."""
    program, *rest = words
    places = os.pathsep.join(filter(None, [str(IMPORTS), os.environ.get("PYTHONPATH")]))
    started = [sys.executable, "-m", f"benchmarks.peers.{program}", *rest]
    with log.open("w", encoding="utf-8") as file:
        try:
            environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": places}
            status = subprocess.run(started, stdout=file, stderr=file, env=environment, timeout=60 * minutes).returncode
        except subprocess.TimeoutExpired:
            return f"it takes more than {minutes:g} minutes (--minutes)"
    return (last_line(log) or f"status {status}") if status else ""


def fill_all(cells: Sequence[Cell], minutes: float) -> None:
    """Fill the cells that are not done, and say how far they are."""
    missing = [cell for cell in cells if not cell.is_done]
    for number, cell in enumerate(missing, start=1):
        fill(cell, minutes)
        content = cell.read()
        said = content.get("failed") or f"training took {shown_time(content['train_cpu_seconds'])} of CPU time"
        say(f"{cell.data}, {cell.method}, seed {cell.seed}: {said}; {number} of {len(missing)} done")


def read_odd_files(films: Films, out: Path) -> None:
    """Let the programs read odd files, made of the first test image, unless that is done; say if it fails."""
    if (out / ODD_FILE).exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    if reason := _call(["odd_files", str(films.test[0].path), str(out)], out / "output.txt", minutes=5):
        say(f"no table of odd files: {reason}")


def run(options: Options) -> str:
    """Fill the cells, write page and CSV file, and return the page.

    Raises:
        InputError: a data set cannot be listed.
    """
    data = options.link_data()
    cells = options.cells(data)
    if any(METHODS[method].takes_hub for method in options.methods):
        use_hub(options.out / "hub")
        say(f"features of timm and of the program differ by {check_equal():.1e} of the largest")
    fill_all(cells, options.minutes)
    read_odd_files(next(iter(data.values())), options.out / ODD)
    rows = measure_cells(cells)
    page = compose(rows, odd_table(options.out / ODD), options.methods)
    (options.out / "peers.md").write_text(page, encoding="utf-8")
    write_csv(options.out / "peers.csv", csv_rows(rows))
    return page


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", "data", multiple=True, required=True, help="Data set, as NAME=DATASET_NAME:PATH; repeatable.")
@click.option(
    "--leave_out", multiple=True, help="Further data set, as NAME=DATA:FILE:COLUMN, see docs/quality.md; repeatable."
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice([*METHODS]),
    default=DEFAULT,
    help="Method to run; repeatable. Others are compared with the first  [default: all that need no GPU and no hub]",
)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1,), show_default=True, help="Seed; repeatable.")
@click.option("--minutes", default=60.0, show_default=True, help="Longest time of a method on a data set, in minutes.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("log/peers"), show_default=True)
def main(**given: Any) -> None:
    """Train and score this program and its peers, and print a page of tables; OUT has it, too, and a CSV file."""
    options = Options(**given)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with only_one(options.out / "lock"):
            click.echo(run(options))
    except InputError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
