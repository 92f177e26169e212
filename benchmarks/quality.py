"""`python -m benchmarks.quality`: how well methods detect, over seeds and data sets, as a table.

Each run is a training and two scorings, of the test images and of jittered copies of them, by the programs themselves.
Nothing is chosen by what comes out. Runs that are done are not repeated, and those that were cut off go on.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.jitter import FOLDERS, write_jittered
from salad.datasets import read_split
from salad.evaluation.comparison import group_auc, read_run
from salad.evaluation.metrics import BASELINES
from salad.runs.folder import MODEL_FILE, RESULT_FILE
from salad.samples import Selection

ROOT = Path(__file__).resolve().parent.parent
# What main.py is given beside the data set and the folders. The recipes of the paper and of the authors' program take
# days at their own length: they are cut to what a CPU does in minutes.
METHODS = {
    "released-short": "unet --recipe released --isize 64 --n_epochs 1",
    "paper-short": "unet --recipe paper --isize 64 --n_epochs 1",
    "strong": "unet --recipe strong",
    "strong-lite0": "unet --recipe strong --backbone efficientnet_lite0",
}
JITTERED, TIMES = "jittered", "seconds.json"
HEADER = (
    "data", "method", "seeds", "AUC", "SD", "95 % CI", "as sharp", "jittered",
    "image mean / std / sharpness", "training, scoring", "model.tar",
)  # fmt: skip

Call = Callable[[str, list[str], Path], bool]
"""From a program (main.py, test.py), its words and a file for what it says to whether it ended well."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set: a name for the table, DATASET_NAME and DATA_PATH."""

    name: str
    dataset_name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Data:
        """From ``NAME=DATASET_NAME:PATH``.

        Raises:
            click.BadParameter: it is not of this form.
        """
        name, _, rest = text.partition("=")
        dataset_name, _, path = rest.partition(":")
        if not (name and dataset_name and path):
            raise click.BadParameter(f"--data is '{text}', but must be NAME=DATASET_NAME:PATH")
        return cls(name=name, dataset_name=dataset_name, path=Path(path))


@dataclass(frozen=True, kw_only=True)
class Run:
    """A method on a data set with a seed, and its folder."""

    data: Data
    method: str
    words: str
    seed: int
    folder: Path

    @property
    def is_done(self) -> bool:
        """Whether it need not be repeated."""
        return all((self.folder / part / RESULT_FILE).exists() for part in ("", JITTERED))

    def do(self, call: Call, *, jittered: Path) -> bool:
        """Train and score, as far as that is not done; whether all ended well."""
        net_name, *options = shlex.split(self.words)
        places = [net_name, str(self.folder), str(self.data.path)]
        was_begun = self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        log, start = self.folder / "said.txt", time.perf_counter()
        seed, keep = ["--seed", str(self.seed)], ["--keep", "1"]  # else the rounds of a recipe fill gigabytes
        if not call("main.py", [self.data.dataset_name, *places, *keep, *options, *seed, "--resume", "auto"], log):
            return False
        trained = time.perf_counter()
        if not call("test.py", [self.data.dataset_name, *places, *seed, "--no_report"], log):
            return False
        seconds = {"train": trained - start, "test": time.perf_counter() - trained}
        if not was_begun:  # else what came before the interruption is missing
            (self.folder / TIMES).write_text(json.dumps(seconds), encoding="utf-8")
        model = ["--load_model", str(self.folder / MODEL_FILE), "--normal_class", FOLDERS[0]]
        shifted = [net_name, str(self.folder / JITTERED), str(jittered), *model, *seed, "--no_report"]
        return call("test.py", ["CXR_author", *shifted], log)


def plan(data: Iterable[Data], methods: dict[str, str], seeds: Iterable[int], out: Path) -> list[Run]:
    """All runs, those of a seed together, so that a table of fewer seeds is there early."""
    return [
        Run(data=one, method=method, words=words, seed=seed, folder=out / one.name / method / f"seed{seed}")
        for seed in seeds
        for one in data
        for method, words in methods.items()
    ]


def call_program(program: str, words: list[str], log: Path, *, num_threads: int) -> bool:
    """Run a program in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    with log.open("a", encoding="utf-8") as file:
        command = [sys.executable, str(ROOT / program), *words]
        return subprocess.run(command, stdout=file, stderr=file, env=env, check=False).returncode == 0


def do_all(runs: list[Run], call: Call, *, jobs: int, out: Path) -> list[Run]:
    """Do what is not done, several at a time; returns those that failed."""
    for data in {run.data.name: run.data for run in runs}.values():
        test = read_split(data.dataset_name, data.path, "test", selection=Selection())
        assert test is not None, "only val may be absent"
        write_jittered(test, out / data.name / JITTERED)
    missing = [run for run in runs if not run.is_done]

    def do(run: Run) -> bool:
        is_well = run.do(call, jittered=out / run.data.name / JITTERED)
        click.echo(f"{run.folder}: {'done' if is_well else 'failed, see said.txt there'}", err=True)
        return is_well

    with ThreadPoolExecutor(jobs) as pool:
        return [run for run, is_well in zip(missing, pool.map(do, missing), strict=True) if not is_well]


def measure(runs: list[Run]) -> dict[str, Any]:
    """The numbers of runs of one method on one data set."""
    read = [read_run(str(run.folder)) for run in runs]
    found = [json.loads((run.folder / RESULT_FILE).read_text(encoding="utf-8")) for run in runs]
    shifted = [read_run(str(run.folder / JITTERED)).auc.value for run in runs]
    times = [json.loads(file.read_text()) for run in runs if (file := run.folder / TIMES).exists()]
    aucs = [one.auc.value for one in read]
    return {
        "data": runs[0].data.name,
        "method": runs[0].method,
        "words": runs[0].words,
        "seeds": [run.seed for run in runs],
        "aucs": aucs,
        "auc": group_auc(read).as_json(),
        "sd": float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None,
        "within_sharpness": [one["value"] for run in found if (one := run["auc_within_sharpness"])],
        "jittered": shifted,
        "baselines": {name: found[0]["baseline_auc"][name]["value"] for name in BASELINES},
        "train_seconds": [one["train"] for one in times],
        "test_seconds": [one["test"] for one in times],
        "model_bytes": (runs[0].folder / MODEL_FILE).stat().st_size,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    for row in rows:
        auc, seconds = row["auc"], [row["train_seconds"], row["test_seconds"]]
        cells = [
            row["data"],
            row["method"],
            str(len(row["seeds"])),
            f"{auc['value']:.3f}",
            "" if row["sd"] is None else f"{row['sd']:.3f}",
            f"{auc['low']:.3f} to {auc['high']:.3f}",
            f"{np.mean(row['within_sharpness']):.3f}" if row["within_sharpness"] else "",
            f"{np.mean(row['jittered']):.3f}",
            " / ".join(f"{value:.3f}" for value in row["baselines"].values()),
            ", ".join(f"{np.median(one):.0f} s" for one in seconds if one),
            f"{row['model_bytes'] / 1e6:.0f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", "data", multiple=True, required=True, help="NAME=DATASET_NAME:PATH; repeatable.")
@click.option("--method", "methods", multiple=True, help="NAME='NET_NAME OPTIONS' of main.py; repeatable.")
@click.option("--only", multiple=True, help="Of the methods that the program knows, this one; repeatable.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True, help="Repeatable.")
@click.option("--jobs", default=1, show_default=True, help="Runs at a time; they share the cores.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("log/quality"), show_default=True)
def main(
    data: tuple[str, ...],
    methods: tuple[str, ...],
    only: tuple[str, ...],
    seeds: tuple[int, ...],
    jobs: int,
    out: Path,
) -> None:
    """Train and score methods with several seeds, and print a table of how well they detect."""
    if unknown := set(only) - METHODS.keys():
        raise click.BadParameter(f"--only is '{unknown.pop()}', but must be one of {', '.join(METHODS)}")
    chosen = {name: words for name, words in METHODS.items() if name in only or not (only or methods)}
    chosen |= {name: words for name, _, words in (one.partition("=") for one in methods)}
    runs = plan([Data.parse(one) for one in data], chosen, seeds, out)
    num_threads = max(1, (os.cpu_count() or 1) // jobs)
    failed = do_all(runs, lambda *words: call_program(*words, num_threads=num_threads), jobs=jobs, out=out)
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.is_done:
            groups.setdefault((run.data.name, run.method), []).append(run)
    rows = [measure(group) for group in groups.values()]
    (out / "quality.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    click.echo(table(rows))
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(runs)} runs failed; the table is of the others")


if __name__ == "__main__":
    main()
