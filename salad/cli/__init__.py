"""Commands of the program; `main` is the command `salad`, which has all of them."""

import click

from salad.cli.data import fetch, inspect, prepare
from salad.cli.films import enrol, export, predict, serve
from salad.cli.options import show_version
from salad.cli.program import HELP, Group
from salad.cli.results import compare
from salad.cli.runs import test, train
from salad.cli.study import study

__all__ = ["main", "test", "train"]
VERSION = "Show the version and exit."


@click.group(cls=Group, context_settings=HELP)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=show_version, help=VERSION)
def main() -> None:
    """Detect anomalies on X-rays: train on normal films, and score how unlike them new ones are."""


for command in (train, test, predict, serve, inspect, enrol, compare, study, export, fetch, prepare):
    main.add_command(command)
