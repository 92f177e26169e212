"""Command `python -m benchmarks.quality`: table of detection quality, over methods, data sets and seeds.

Each run calls main.py once and test.py twice, for the test images and for jittered copies of them. No setting is chosen
by test results. Finished runs are not repeated, and interrupted runs are resumed.
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
# Arguments of main.py besides data set and folders. The recipes paper and released take days at full length, so they
# are shortened to minutes on a CPU.
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
"""Function of a program (main.py or test.py), its arguments and a log file; returns True on success."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Data set: name in the table, DATASET_NAME and DATA_PATH."""

    name: str
    dataset_name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Data:
        """Parse ``NAME=DATASET_NAME:PATH``.

        Raises:
            click.BadParameter: the text has another form.
        """
        name, _, rest = text.partition("=")
        dataset_name, _, path = rest.partition(":")
        if not (name and dataset_name and path):
            raise click.BadParameter(f"--data is '{text}', but must be NAME=DATASET_NAME:PATH")
        return cls(name=name, dataset_name=dataset_name, path=Path(path))


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run of a method on a data set with a seed, and its folder."""

    data: Data
    method: str
    words: str
    seed: int
    folder: Path

    @property
    def is_done(self) -> bool:
        """True if the run is finished."""
        return all((self.folder / part / RESULT_FILE).exists() for part in ("", JITTERED))

    def do(self, call: Call, *, jittered: Path) -> bool:
        """Train and score, or finish an interrupted run; return True on success."""
        net_name, *options = shlex.split(self.words)
        arguments = [net_name, str(self.folder), str(self.data.path)]
        was_begun = self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        log, start = self.folder / "said.txt", time.perf_counter()
        seed, keep = ["--seed", str(self.seed)], ["--keep", "1"]  # else the checkpoints of all rounds fill gigabytes
        if not call("main.py", [self.data.dataset_name, *arguments, *keep, *options, *seed, "--resume", "auto"], log):
            return False
        trained = time.perf_counter()
        if not call("test.py", [self.data.dataset_name, *arguments, *seed, "--no_report", "--overwrite"], log):
            return False
        seconds = {"train": trained - start, "test": time.perf_counter() - trained}
        if not was_begun:  # else the time before the interruption is missing
            (self.folder / TIMES).write_text(json.dumps(seconds), encoding="utf-8")
        model = ["--load_model", str(self.folder / MODEL_FILE), "--normal_class", FOLDERS[0]]
        shifted = [net_name, str(self.folder / JITTERED), str(jittered), *model, *seed, "--no_report", "--overwrite"]
        return call("test.py", ["CXR_author", *shifted], log)


def plan(data: Iterable[Data], methods: dict[str, str], seeds: Iterable[int], out: Path) -> list[Run]:
    """List all runs, seed by seed, so that a table of few seeds is available early."""
    return [
        Run(data=source, method=method, words=words, seed=seed, folder=out / source.name / method / f"seed{seed}")
        for seed in seeds
        for source in data
        for method, words in methods.items()
    ]


def call_program(program: str, words: list[str], log: Path, *, num_threads: int) -> bool:
    """Run a program in a separate process, with its output in a log file; return True on success."""
    env = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    with log.open("a", encoding="utf-8") as file:
        command = [sys.executable, str(ROOT / program), *words]
        return subprocess.run(command, stdout=file, stderr=file, env=env, check=False).returncode == 0


def do_all(runs: list[Run], call: Call, *, jobs: int, out: Path) -> list[Run]:
    """Do the unfinished runs, several at a time; return those that failed."""
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
    """Collect the results of the runs of one method on one data set."""
    read = [read_run(str(run.folder)) for run in runs]
    results = [json.loads((run.folder / RESULT_FILE).read_text(encoding="utf-8")) for run in runs]
    shifted = [read_run(str(run.folder / JITTERED)).auc.value for run in runs]
    times = [json.loads(file.read_text()) for run in runs if (file := run.folder / TIMES).exists()]
    aucs = [result.auc.value for result in read]
    return {
        "data": runs[0].data.name,
        "method": runs[0].method,
        "words": runs[0].words,
        "seeds": [run.seed for run in runs],
        "aucs": aucs,
        "auc": group_auc(read).as_json(),
        "sd": float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None,
        "within_sharpness": [auc["value"] for result in results if (auc := result["auc_within_sharpness"])],
        "jittered": shifted,
        "baselines": {name: results[0]["baseline_auc"][name]["value"] for name in BASELINES},
        "train_seconds": [seconds["train"] for seconds in times],
        "test_seconds": [seconds["test"] for seconds in times],
        "model_bytes": (runs[0].folder / MODEL_FILE).stat().st_size,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format the results as a Markdown table."""
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
            ", ".join(f"{np.median(times):.0f} s" for times in seconds if times),
            f"{row['model_bytes'] / 1e6:.0f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", "data", multiple=True, required=True, help="Data set, as NAME=DATASET_NAME:PATH; repeatable.")
@click.option(
    "--method", "methods", multiple=True, help="Further method, as NAME='NET_NAME OPTIONS' for main.py; repeatable."
)
@click.option("--only", multiple=True, help="Built-in method to run; repeatable  [default: all, or none with --method]")
@click.option(
    "--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True, help="Seed; repeatable."
)
@click.option("--jobs", default=1, show_default=True, help="Number of runs at a time; they share the cores.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("log/quality"), show_default=True)
def main(
    data: tuple[str, ...],
    methods: tuple[str, ...],
    only: tuple[str, ...],
    seeds: tuple[int, ...],
    jobs: int,
    out: Path,
) -> None:
    """Train and test methods with several seeds, and print a table of their AUCs."""
    if unknown := set(only) - METHODS.keys():
        raise click.BadParameter(f"--only is '{unknown.pop()}', but must be one of {', '.join(METHODS)}")
    chosen = {name: words for name, words in METHODS.items() if name in only or not (only or methods)}
    chosen |= {name: words for name, _, words in (method.partition("=") for method in methods)}
    runs = plan([Data.parse(text) for text in data], chosen, seeds, out)
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
        raise click.ClickException(f"{len(failed)} of {len(runs)} runs failed; the table holds the others")


if __name__ == "__main__":
    main()
