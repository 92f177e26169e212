"""Click commands with the options that `Config` declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import salad
from salad.cli.arguments import SHORT_FORMS, complete, names_of, normal_option, resolve
from salad.cli.program import HELP, Command, PathType, exit_status
from salad.config import OPTIONS
from salad.config.declare import PREDICT, TEST, TRAIN, Option, read_values
from salad.config.recipes import recipe_values
from salad.distributed.team import Team, join
from salad.errors import give

Run = Callable[[dict[str, Any], Team], None]


def command_of(program: str, *, more: tuple[click.Parameter, ...] = ()) -> Callable[[Run], click.Command]:
    """Make a click command with the options of `Config` from a function of option values and team.

    The function gets the values from the command line and the --load_config file, by name. `Config` sets the others to
    their defaults.

    Args:
        program: name of the command in `Facts.commands`.
        more: parameters of this command only.
    """

    def decorate(run: Run) -> click.Command:
        declared = [option for option in OPTIONS.values() if program in option.facts.commands]
        arguments = [OPTIONS[name] for name in names_of(program)]
        options = [option for option in declared if not option.facts.is_argument]
        notes = "\n".join(f"{argument.flag:<14}{argument.facts.help}" for argument in arguments)
        normal = [normal_option(program)] if arguments else []
        command = Command(
            run.__name__,
            callback=_callback(program, run),
            params=[
                *(_parameter(option, program) for option in arguments),
                *normal,
                *(_parameter(option, program) for option in options),
                *more,
                *_common_options(),
            ],
            help=f"{inspect.getdoc(run)}\n\n\b\n{notes}",
            context_settings=HELP,
        )
        command.short_form = SHORT_FORMS.get(program)
        return command

    return decorate


def _callback(program: str, run: Run) -> Callable[..., None]:
    """Make the callback that joins recipe, --load_config file and command line, and runs the command."""

    def callback(load_config: Path | None, debug: bool, **values: Any) -> None:
        with exit_status(debug=debug, says_interruption=False):
            team = join()
        with exit_status(debug=debug, team=team):
            run(complete(gather(program, load_config, resolve(values, program)), program), team)
            team.leave()

    return callback


def gather(program: str, load_config: Path | None, values: dict[str, Any]) -> dict[str, Any]:
    """Join the values of recipe, --load_config file and command line; each wins over those before it.

    Args:
        program: name of the command in `Facts.commands`.
        load_config: file of options, or None.
        values: values of the command line by name; None or () for an option that was not typed.
    """
    typed = {name: value for name, value in values.items() if value is not None and value != ()}
    read = read_values(load_config, OPTIONS) if load_config else {}
    read = {name: value for name, value in read.items() if value is not None}
    if program != TRAIN:
        for name in ("load_model", "recipe"):  # they are the start of that run, not its result
            read.pop(name, None)
    outputs = {name for name in read if OPTIONS[name].section == "output"}
    for name in outputs:  # --report of test.py is a switch, that of predict a file
        if program not in OPTIONS[name].facts.commands:
            del read[name]
    return {**recipe_values(read.get("recipe")), **read, **recipe_values(typed.get("recipe")), **typed}


def _common_options() -> list[click.Parameter]:
    """Make the options that every command has."""
    return [
        click.Option(
            ["--load_config"],
            type=PathType(),
            help="JSON file of options, such as config.json of a run. The command line overrides it  [default: none]",
        ),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an internal error.  [default: off]"),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=show_version,
            help="Show the version and exit.",
        ),
    ]


def show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version and exit."""
    if wanted and not context.resilient_parsing:
        give(f"salad {salad.__version__}")
        context.exit()


def _parameter(declared: Option, program: str) -> click.Parameter:
    """Make the click parameter of an option."""
    facts, default = declared.facts, declared.default
    given_type: Any = PathType() if declared.kind is Path else declared.kind
    if facts.is_argument:
        return click.Argument([declared.name], type=given_type, required=False, metavar=declared.flag)
    if facts.choices:
        given_type = click.Choice(facts.choices)
    is_switch = declared.kind is bool
    bare: dict[str, Any] = {"is_flag": False, "flag_value": facts.bare} if facts.bare else {}
    return click.Option(
        [f"--{declared.name}/--no_{declared.name}" if is_switch else f"--{declared.name}"],
        **bare,
        type=None if is_switch else given_type,
        default=None,
        multiple=declared.many,
        help=_help_of(declared, default, of_model=facts.of_model and program in (TEST, PREDICT)),
    )


def _help_of(declared: Option, default: Any, *, of_model: bool) -> str:
    """Compose the help of an option: its text, and its default or a note that the checkpoint sets it."""
    if of_model:
        return f"{declared.facts.help.partition('  [default')[0]}  [default: as in training]"
    if default is None:
        return declared.facts.help
    if declared.kind is bool:
        shown = "on" if default else "off"
    else:
        shown = default[0] if declared.many and default else default
    return f"{declared.facts.help}  [default: {shown}]"
