"""`python -m benchmarks NAME`: a table on stdout, all numbers as JSON in a file."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import click
import torch

from benchmarks.compare import machine, table

# name -> module; its run(*, turns: int) gives the timings, or raises click.UsageError where it cannot run here
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
@click.option("--turns", default=5, show_default=True, help="How often each side is timed.")
@click.option("--threads", type=int, help="Threads of torch  [default: torch's own choice]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write all numbers to this file.")
def main(name: str, turns: int, threads: int | None, json_path: Path | None) -> None:
    """Time the program against plain baselines, in turn, and print the ratios."""
    if threads:
        torch.set_num_threads(threads)
    timings = []
    for one in NAMES if name == "all" else [name]:
        try:
            timings += importlib.import_module(NAMES[one]).run(turns=turns)
        except click.UsageError as error:
            if name != "all":
                raise
            click.echo(f"{one}: left out, {error.message}", err=True)
    found = machine()
    click.echo(f"{found['cpu']}, {found['cores']} cores, {found['threads']} threads, GPU {found['gpu'] or 'none'}")
    click.echo(", ".join(f"{package} {number}" for package, number in found["versions"].items()) + "\n")
    click.echo(table(timings))
    if json_path:
        content = {"machine": found, "timings": [one.as_json() for one in timings]}
        json_path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
