"""Commands that compare the results of runs."""

from __future__ import annotations

import click

from salad.cli.program import HELP, Program, exit_status
from salad.errors import give, say


@click.command(cls=Program, context_settings=HELP)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "latex"]),
    default="text",
    show_default=True,
    help="Format of the table.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def compare(runs: tuple[str, ...], form: str, debug: bool) -> None:
    """Compare test results of several runs: AUCs, their mean and standard deviation, and paired DeLong p-values.

    RUN is an XP_PATH or METHOD=XP_PATH. With METHOD, the runs (seeds) of a method are averaged, and methods compared.
    """
    with exit_status(debug=debug):
        from salad.evaluation.comparison import compare_runs
        from salad.evaluation.tables import FORMATS

        comparison = compare_runs(runs)
        for run in comparison.runs:
            if run.warnings:
                say(f"{run.name}: {'; '.join(run.warnings)}")
        give(FORMATS[form](comparison))
