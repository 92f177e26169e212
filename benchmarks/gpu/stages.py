"""Stages of the benchmark `gpu`: a table, and a process for each, which is ended at its bound."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.gpu.notes import Notes
from salad.datasets.phantom import write_phantom

ROOT = Path(__file__).resolve().parent.parent.parent
GRACE = 3.0  # seconds between the time that a stage is told and the one at which its process is ended
LOG_FILE, RUN_FILE = "log.txt", "run.json"
DATA_SETS = ("kermany_dev", "nih_adult_dev")
FEW = 16  # images of a class in smoke form


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Stage of the benchmark.

    Attributes:
        module: module whose run(setting, notes) does the work.
        share: share of the time that is left, relative to the shares of the stages still to come.
        shows: what a finished stage proves.
    """

    module: str
    share: float
    shows: str


STAGES = {
    "facts": Stage(module="benchmarks.gpu.facts", share=10, shows="GPU, driver, clocks, packages"),
    "correct": Stage(module="benchmarks.gpu.correct", share=16, shows="the tests of CUDA"),
    "speed": Stage(module="benchmarks.gpu.speed", share=25, shows="rates, shares of a step, memory"),
    "paper": Stage(module="benchmarks.gpu.paper", share=39, shows="val AUC by round of the recipes paper and released"),
    "strong": Stage(module="benchmarks.gpu.strong", share=10, shows="the recipe strong, and a longer one at 256 px"),
}


def bound_of(name: str, names: list[str], left: float) -> float:
    """Compute the seconds that a stage may take: its share of the time left to it and to the stages after it."""
    later = names[names.index(name) :]
    return left * STAGES[name].share / sum(STAGES[other].share for other in later)


def run_stage(name: str, options: list[str], *, bound: float, log: Path) -> str:
    """Run a stage in a process group of its own, and end the group at the bound.

    Args:
        name: name of the stage.
        options: options of `benchmarks.gpu.__main__`.
        bound: seconds after which the processes are killed.
        log: file to append their output to.

    Returns:
        ``done``, ``failed`` or ``out of time``.
    """
    command = [sys.executable, "-m", "benchmarks.gpu", name, *options, "--seconds", str(max(1.0, bound - GRACE))]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if "--smoke" in options:
        env.setdefault("OMP_NUM_THREADS", "1")  # sizes this small lose time on more
    with log.open("ab") as file:
        file.write(f"\n==== {name}, {bound:.0f} s at the most\n".encode())
        file.flush()
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)
        try:
            return "done" if process.wait(timeout=bound) == 0 else "failed"
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:
            process.kill()
            with contextlib.suppress(ProcessLookupError):  # its group: what it has started and left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def draw_data(folder: Path, *, smoke: bool) -> None:
    """Draw phantoms in place of both data sets."""
    sizes = {"size": 64, "num_train": 16, "num_val": 4, "num_test": 4} if smoke else {"size": 256, "num_train": 1000}
    for name in DATA_SETS:
        write_phantom(folder / name, **sizes)


def link_few(source: Path, target: Path) -> None:
    """Link the first images of each class of both data sets, for the smoke form."""
    for name in DATA_SETS:
        for folder in (source / name).glob("*/*/"):
            copy = target / folder.relative_to(source)
            copy.mkdir(parents=True)
            for path in sorted(folder.iterdir())[:FEW]:
                (copy / path.name).symlink_to(path.resolve())


def run_stages(
    names: list[str], *, data: Path | None, out: Path, minutes: float, device: str, smoke: bool
) -> dict[str, str]:
    """Run stages one after the other, each within its share of the time; return the outcome of each."""
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    log, outcomes = out / LOG_FILE, {}
    log.write_text("", encoding="utf-8")
    run = Notes(out / RUN_FILE)
    run.add("device", device)
    run.add("smoke", smoke)
    work = Path(tempfile.mkdtemp(prefix="salad_gpu_"))
    try:
        if data is None:
            draw_data(work / "data", smoke=smoke)
        elif smoke:
            link_few(data, work / "data")
        source = work / "data" if data is None or smoke else data
        options = ["--data", str(source), "--out", str(out), "--work", str(work), "--device", device]
        options += ["--smoke"] if smoke else []
        for name in names:
            began = time.monotonic()
            bound = bound_of(name, names, start + 60 * minutes - began)
            (out / f"{name}.json").unlink(missing_ok=True)
            outcomes[name] = run_stage(name, options, bound=bound, log=log)
            seconds = time.monotonic() - began
            run.add(name, {"outcome": outcomes[name], "seconds": round(seconds, 1), "bound": round(bound, 1)})
            click.echo(f"{name}: {outcomes[name]} in {seconds:.0f} of {bound:.0f} s; {STAGES[name].shows}", err=True)
        run.add("seconds", round(time.monotonic() - start, 1))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return outcomes


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help=f"Folder with the data sets {' and '.join(DATA_SETS)}, in class folders  [default: phantoms are drawn]",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("log/gpu"), show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=9.0, show_default=True)
@click.option("--stage", "names", multiple=True, type=click.Choice([*STAGES]), help="Stage; repeatable  [default: all]")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="[default: cuda; with --smoke, cpu]")
@click.option("--smoke", is_flag=True, help="Tiny sizes and few images: all stages within two minutes on a CPU.")
def main(data: Path | None, out: Path, minutes: float, names: tuple[str, ...], device: str | None, smoke: bool) -> None:
    """Show on a GPU that the program is correct and fast there, and train the recipes of the paper at full length."""
    import torch

    from benchmarks.gpu.table import table

    device = device or ("cpu" if smoke else "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("torch finds no GPU here; --smoke runs tiny sizes on the CPU")
    chosen = [name for name in STAGES if name in names or not names]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that stages end with the command
    outcomes = run_stages(chosen, data=data, out=out, minutes=minutes, device=device, smoke=smoke)
    click.echo(table(out))
    if failed := [name for name, outcome in outcomes.items() if outcome == "failed"]:
        raise click.ClickException(f"{', '.join(failed)} failed; {out / LOG_FILE} says why; the others have results")
