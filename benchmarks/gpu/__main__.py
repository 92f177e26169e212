"""One stage of the benchmark `gpu`, in the process that `benchmarks.gpu.stages` starts for it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import click

from benchmarks.gpu.notes import Notes, Setting
from benchmarks.gpu.stages import STAGES
from benchmarks.gpu.training import shrink_unet


@click.command()
@click.argument("name", type=click.Choice([*STAGES]))
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--device", required=True)
@click.option("--smoke", is_flag=True)
@click.option("--seconds", type=float, required=True)
def main(name: str, data: Path, out: Path, work: Path, device: str, smoke: bool, seconds: float) -> None:
    """Run a stage and write its results to a JSON file in OUT."""
    os.setpgrp()  # a group, and not a session: whoever ends the session of the benchmark ends its stages, too
    if smoke:
        shrink_unet()
    setting = Setting(data=data, out=out, work=work, device=device, smoke=smoke, seconds=seconds)
    importlib.import_module(STAGES[name].module).run(setting, Notes(out / f"{name}.json"))


if __name__ == "__main__":
    main()
