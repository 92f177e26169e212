"""Command `python -m benchmarks NAME`: print a table to stdout, and optionally write all numbers as JSON."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import click
import torch

from benchmarks.compare import machine, table

# name -> module, whose run(*, turns: int) returns timings, or raises click.UsageError if it cannot run here
NAMES: dict[str, str] = {
    "data": "benchmarks.data",
    "step": "benchmarks.step",
    "evaluation": "benchmarks.evaluation",
    "cuda": "benchmarks.cuda",
    "anchors": "benchmarks.anchors",
    "knn": "benchmarks.knn",
    "startup": "benchmarks.startup",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", type=click.Choice([*NAMES, "all"]))
@click.option("--turns", default=5, show_default=True, help="Number of timed calls of each side.")
@click.option("--threads", type=int, help="Number of torch threads  [default: torch's own choice]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write all numbers to this JSON file.")
def main(name: str, turns: int, threads: int | None, json_path: Path | None) -> None:
    """Time the program and plain baselines in turn, and print the ratios."""
    if threads:
        torch.set_num_threads(threads)
    timings = []
    for benchmark in NAMES if name == "all" else [name]:
        try:
            timings += importlib.import_module(NAMES[benchmark]).run(turns=turns)
        except click.UsageError as error:
            if name != "all":
                raise
            click.echo(f"{benchmark}: left out, {error.message}", err=True)
    host = machine()
    click.echo(f"{host['cpu']}, {host['cores']} cores, {host['threads']} threads, GPU {host['gpu'] or 'none'}")
    click.echo(", ".join(f"{package} {number}" for package, number in host["versions"].items()) + "\n")
    click.echo(table(timings))
    if json_path:
        content = {"machine": host, "timings": [timing.as_json() for timing in timings]}
        json_path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
