"""Command-line programs main.py and test.py; options come from `Config`, and heavy imports wait until they run."""

from __future__ import annotations

import contextlib
import errno
import inspect
import logging
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import salad
from salad.config import ARGUMENTS, OPTIONS, SECTIONS, Config
from salad.config.declare import PREDICT, TEST, TRAIN, Option, path_of, read_values
from salad.config.recipes import recipe_values
from salad.distributed.team import SOLO, Team, is_lost_peer, join, mute_all_but_one_a_machine
from salad.errors import RunInterruptedError, StoppedError, cut, give, printable, shortage
from salad.runs.log import prepare_output

if TYPE_CHECKING:
    from salad.evaluation.result import Result

logger = logging.getLogger(__name__)

REPORT = "this is a bug: run again with --debug and report it with the traceback"
MAX_WIDTH = 110  # columns of a help text
COMMAND_SECTION = "this command"
LOST_PEER = (
    "Error: another process of this run died without a message (killed? out of memory?); torchrun tells which one"
)
NO_SUCH_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

Run = Callable[[dict[str, Any], Team], None]


class PathType(click.Path):
    """Path on the command line; an empty one, which would mean the current folder, is refused."""

    name = "path"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert a word to a path."""
        if isinstance(value, str):
            try:
                path_of(value)
            except ValueError as error:
                self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


class Program(click.Command):
    """Command whose messages are fit for a terminal; only one process of each machine prints them."""

    def main(self, *words: Any, **options: Any) -> Any:
        """Set up the output and run the command."""
        mute_all_but_one_a_machine()
        prepare_output()
        return super().main(*words, **options)

    def make_context(self, *words: Any, **options: Any) -> click.Context:
        """Read the command line."""
        with _fit_for_terminal():
            return super().make_context(*words, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with the values of the command line."""
        with _fit_for_terminal():
            return super().invoke(ctx)


class Group(Program, click.Group):
    """Group of commands, as `Program`."""


@contextlib.contextmanager
def _fit_for_terminal() -> Iterator[None]:
    """Escape and cut the message of an error of the command line, which quotes its words."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = cut(printable(error.message))
        raise


class Command(Program):
    """Command with a help text that lists options by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each section, and last those of this command only."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in (*SECTIONS, COMMAND_SECTION)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                declared = OPTIONS.get(parameter.name or "")
                sections[declared.section if declared else COMMAND_SECTION].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name.capitalize()):
                    formatter.write_dl(records)


@contextlib.contextmanager
def exit_status(*, debug: bool, team: Team = SOLO, says_interruption: bool = True) -> Iterator[None]:
    """Turn an error into one line on stderr and an exit status, and end all processes of the team.

    Args:
        debug: True to show the traceback of an internal error.
        team: processes of the run.
        says_interruption: False to end silently at a signal: before its processes know each other, a team would report
            the signal by which torchrun ends the others beside the failure of one.
    """
    try:
        with ended_by_sigterm():
            yield
    except StoppedError as error:
        team.end(f"Error: {printable(error)}", error.exit_code)
    except KeyboardInterrupt as error:
        received = error.args[0] if error.args else signal.SIGINT
        team.end(f"Error: interrupted by {received.name}" if says_interruption else "", 128 + received)
    except BrokenPipeError:  # the reader of stdout, such as head, has closed it: click exits silently
        raise
    except Exception as error:
        if is_lost_peer(error):
            team.end(LOST_PEER, 1)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            team.end(f"Error: {printable(error.filename or 'a file')}: cannot be written ({error.strerror})", 1)
        if reason := shortage(error):
            team.end(f"Error: {reason} ({printable(error)[:200]})", 1)
        logger.debug("internal error", exc_info=True)
        if debug and team.size == 1:
            team.end(traceback.format_exc(), 1)
        if isinstance(error, OSError) and error.errno and error.filename:
            team.end(f"Error: {printable(error.filename)}: {error.strerror}", 2 if error.errno in NO_SUCH_PATH else 1)
        message = f"Internal error: {type(error).__name__}: {printable(error)}; {REPORT}"
        team.end(traceback.format_exc() if debug else message, 1)


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does, with a line and what has to be tidied up."""
    is_possible = threading.current_thread() is threading.main_thread()  # Python allows handlers there only
    before = signal.signal(signal.SIGTERM, _interrupt) if is_possible else None
    try:
        yield
    finally:
        if is_possible:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, _: object) -> None:
    """Raise the exception of an interruption."""
    raise KeyboardInterrupt(signal.Signals(number))


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
        arguments = [OPTIONS[name] for name in ARGUMENTS if OPTIONS[name] in declared]
        options = [option for option in declared if not option.facts.is_argument]
        notes = "\n".join(f"{argument.name.upper():<14}{argument.facts.help}" for argument in arguments)
        return Command(
            run.__name__,
            callback=_callback(program, run),
            params=[*(_parameter(option, program) for option in [*arguments, *options]), *more, *_common_options()],
            help=f"{inspect.getdoc(run)}\n\n\b\n{notes}",
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH},
        )

    return decorate


def _callback(program: str, run: Run) -> Callable[..., None]:
    """Make the callback that joins recipe, --load_config file and command line, and runs the command."""

    def callback(load_config: Path | None, debug: bool, **values: Any) -> None:
        typed = {name: value for name, value in values.items() if value is not None and value != ()}
        with exit_status(debug=debug, says_interruption=False):
            team = join()
        with exit_status(debug=debug, team=team):
            read = read_values(load_config, OPTIONS) if load_config else {}
            read = {name: value for name, value in read.items() if value is not None}
            if program != TRAIN:
                for name in ("load_model", "recipe"):  # they are the start of that run, not its result
                    read.pop(name, None)
            run({**recipe_values(read.get("recipe")), **read, **recipe_values(typed.get("recipe")), **typed}, team)
            team.leave()

    return callback


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
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ]


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version and exit."""
    if wanted and not context.resilient_parsing:
        give(f"salad {salad.__version__}")
        context.exit()


def _parameter(declared: Option, program: str) -> click.Parameter:
    """Make the click parameter of an option."""
    facts, default = declared.facts, declared.default
    given_type: Any = PathType() if declared.kind is Path else declared.kind
    if facts.is_argument:
        return click.Argument([declared.name], type=given_type)
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


def without_resume(words: list[str]) -> list[str]:
    """Remove --resume with its value, and --overwrite, from a command line."""
    values = {i + 1 for i, word in enumerate(words[:-1]) if word == "--resume" and words[i + 1] in ("must", "auto")}
    return [
        word for i, word in enumerate(words) if i not in values and not word.startswith(("--resume", "--overwrite"))
    ]


@command_of(TRAIN)
def train(given: dict[str, Any], team: Team) -> None:
    """Train on the normal images of DATA_PATH/train; write checkpoints and logs to XP_PATH."""
    config = Config.of(given)  # cheap checks before anything heavy
    from salad.runs.folder import RunFolder, log_to
    from salad.runs.followers import check_packages

    check_packages(tensorboard=config.output.tensorboard, mlflow=config.output.mlflow)
    from salad.training.run import run_training

    folder = RunFolder(given["xp_path"], writes=team.is_first)
    with folder.starting(), folder.lock():
        log_to(folder)
        try:
            run_training(given, folder, team=team)
        except RunInterruptedError as error:
            go_on = team.how_to(f"{shlex.join(without_resume(sys.argv))} --resume")
            raise RunInterruptedError(error.received, f"go on with: {go_on}") from None
    name, net, xp, data = (str(given[key]) for key in ("dataset_name", "net_name", "xp_path", "data_path"))
    logger.info("done: score with  %s", shlex.join(["python", "test.py", name, net, xp, data]))


@command_of(TEST)
def test(given: dict[str, Any], team: Team) -> None:
    """Score DATA_PATH/test with a checkpoint; write scores.csv, metrics.json, model_card.md and report.html.

    The AUC is printed last. Preprocessing, network and score are those of the training by default. The files are
    written to XP_PATH, or to --out. Results of another model or data set are not replaced without --overwrite.
    """
    Config.of(given)  # cheap checks before anything heavy
    from salad.checkpoint import load_checkpoint
    from salad.device import draw_seed
    from salad.evaluation.summary import summarise, write_result
    from salad.runs.folder import MODEL_FILE, RunFolder, log_to
    from salad.scoring.earlier_results import HEATMAPS, MADE_FROM, made_from, replaces_others, shown_folder
    from salad.scoring.evaluate import open_test, run_test
    from salad.scoring.options import reconcile

    path = given.get("load_model") or given["xp_path"] / MODEL_FILE
    checkpoint = load_checkpoint(path)
    config = Config.of(reconcile(given, checkpoint))
    config = config.changed(seed=draw_seed(config.run.seed), load_model=path)
    folder = RunFolder(config.output.out or config.output.xp_path, writes=team.is_first)
    heatmaps = config.output.heatmaps
    with folder.starting():
        log_to(folder)
        context, split = open_test(config, checkpoint, team=team)
        facts: dict[str, Any] = {MADE_FROM: made_from(config, checkpoint, split), HEATMAPS: shown_folder(heatmaps)}
        replaces = config.run.overwrite or replaces_others(folder.path, facts[MADE_FROM], heatmaps=heatmaps)
        if heatmaps is not None:
            from salad.explaining.overlays import make_folder

            make_folder(heatmaps)  # before the scoring, so that an error comes early
        result, model = run_test(context, checkpoint, split)
    if team.is_first:
        facts |= {
            "memory": dict(model.kinds),
            "score": config.scoring.score,
            "checkpoint": str(path),
            "seed": config.run.seed,
        }
        summary = summarise(result, specificity=config.scoring.specificity, seed=config.run.seed)
        write_result(result, summary, folder, **facts)  # now, since the disk may have no room for the heatmaps
    from salad.explaining.locate import locate

    located = locate(model, checkpoint, result=result, folder=heatmaps)
    if not team.is_first:
        return
    if located is not None:
        write_result(result, summary, folder, **facts, localisation=located.as_json())
    if replaces:
        folder.clear_report()  # one of other results must not stay beside these
    for name, value in [*summary.rows(), *(located.rows() if located else [])]:
        logger.info("%-30s %s", name, value)
    from salad.report.compose import Scoring
    from salad.report.model_card import write_card
    from salad.report.write import write_report

    scoring = Scoring(
        result=result,
        summary=summary,
        located=located,
        model=model,
        checkpoint=checkpoint,
        folder=folder,
        command=team.how_to(shlex.join(sys.argv)),
    )
    try:
        write_card(scoring)
        if config.output.report:
            write_report(scoring)
    finally:  # the last line, which a file that cannot be written does not take away
        say_auc(result)


def say_auc(result: Result) -> None:
    """Print the AUC to stdout."""
    if result.auc is None:
        only = "normal" if result.split.num_normal else "abnormal"
        give(f"AUC score = undefined (all {len(result.scores)} test images are {only})")
    else:
        give(f"AUC score = {result.auc.value:.5f}")
