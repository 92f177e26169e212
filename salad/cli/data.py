"""Commands that describe and prepare data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from salad.cli.options import command_of
from salad.cli.program import HELP, PathType, Program, exit_status
from salad.config import Config
from salad.config.declare import INSPECT
from salad.distributed.team import Team
from salad.errors import give

NO_RUN = {"net_name": "unet", "xp_path": Path()}  # required by `Config`, without effect here


@command_of(INSPECT, more=(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of text."),))
def inspect(given: dict[str, Any], _: Team) -> None:
    """Describe a data set, its test images included, and report problems, without training."""
    as_json = given.pop("as_json")
    config = Config.of({**NO_RUN, **given})
    from salad.checks.films import refuse_unread
    from salad.checks.inspection import inspect_data
    from salad.checks.leaks import refuse_leaks
    from salad.checks.screen import baseline_lines, fact_lines, warning_lines

    inspection = inspect_data(config)
    if as_json:
        give(json.dumps(inspection.as_json(), indent=2))
    else:
        baselines = baseline_lines(inspection.baselines) if inspection.baselines else []
        give("\n".join([*fact_lines(inspection), *warning_lines(inspection), *baselines]))
    if config.data.strict:
        refuse_unread(inspection.unread)
        refuse_leaks(inspection.leaks)


@click.command(cls=Program, context_settings=HELP)
@click.option("--out", type=PathType(), default="data", show_default=True, help="Folder of the data sets.")
@click.option(
    "--sha256",
    metavar="HEX",
    help="Expected SHA-256 of the archive; another one is an error. The authors publish none.",
)
@click.option("--archive", type=PathType(), help="Local copy of author.tar.xz to use instead of a download.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def fetch(out: Path, sha256: str | None, archive: Path | None, debug: bool) -> None:
    """Download the authors' images (NIH ChestX-ray14, split as in the paper) to OUT/author, and count them."""
    from salad.datasets.author_archive import fetch

    with exit_status(debug=debug):
        give("\n".join(fetch(out, archive=archive, sha256=sha256)))


@click.command(cls=Program, context_settings=HELP)
@click.argument("tree", type=click.Choice(["CXR_author"]))
@click.option(
    "--nih",
    required=True,
    type=PathType(),
    help="Folder of the NIH download, with images in it, in images/ or in images_*/images.",
)
@click.option("--lists", required=True, type=PathType(), help="Folder of train.txt, val.txt, test_attending_rad.txt.")
@click.option("--out", required=True, type=PathType(), help="Folder to create, for example data/author.")
@click.option("--allow_missing", is_flag=True, help="Continue with the images that are present.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def prepare(tree: str, nih: Path, lists: Path, out: Path, allow_missing: bool, debug: bool) -> None:
    """Build the paper's data set from NIH ChestX-ray14 and the authors' lists, with lines "<image> <0|1>"."""
    from salad.datasets.author_tree import build_tree

    with exit_status(debug=debug):
        for line in build_tree(nih, lists, out=out, allow_missing=allow_missing):
            give(line)
