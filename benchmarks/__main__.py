"""Command `python -m benchmarks NAME`: print a table to stdout, and optionally write all numbers as JSON."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import click
import torch

from benchmarks.compare import machine, table
from benchmarks.gpu.stages import main as gpu

# name -> module, whose run(*, turns: int) returns timings
NAMES: dict[str, str] = {
    "data": "benchmarks.data",
    "step": "benchmarks.step",
    "evaluation": "benchmarks.evaluation",
    "anchors": "benchmarks.anchors",
    "knn": "benchmarks.knn",
    "startup": "benchmarks.startup",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Time the program and plain baselines, or run the program on a GPU."""


def compare_with_baselines(names: tuple[str, ...], *, turns: int, threads: int | None, json_path: Path | None) -> None:
    """Time the program and plain baselines in turn, and print the ratios."""
    if threads:
        torch.set_num_threads(threads)
    timings = [timing for name in names for timing in importlib.import_module(NAMES[name]).run(turns=turns)]
    host = machine()
    click.echo(f"{host['cpu']}, {host['cores']} cores, {host['threads']} threads, GPU {host['gpu'] or 'none'}")
    click.echo(", ".join(f"{package} {number}" for package, number in host["versions"].items()) + "\n")
    click.echo(table(timings))
    if json_path:
        content = {"machine": host, "timings": [timing.as_json() for timing in timings]}
        json_path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def command_of(name: str, names: tuple[str, ...], text: str) -> click.Command:
    """Make the command that compares with baselines."""

    @click.command(name, help=text, context_settings={"help_option_names": ["-h", "--help"]})
    @click.option("--turns", default=5, show_default=True, help="Number of timed calls of each side.")
    @click.option("--threads", type=int, help="Number of torch threads  [default: torch's own choice]")
    @click.option(
        "--json", "json_path", type=click.Path(path_type=Path), help="Also write all numbers to this JSON file."
    )
    def command(turns: int, threads: int | None, json_path: Path | None) -> None:
        compare_with_baselines(names, turns=turns, threads=threads, json_path=json_path)

    return command


for name, module in NAMES.items():
    main.add_command(command_of(name, (name,), f"Time the tasks of {module} beside their baselines."))
main.add_command(command_of("all", (*NAMES,), "Time all tasks beside their baselines."))
main.add_command(gpu, "gpu")

if __name__ == "__main__":
    main()
