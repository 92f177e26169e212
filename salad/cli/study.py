"""Command that trains and scores several methods with several seeds, and compares them."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salad.cli.options import gather
from salad.cli.program import HELP, PathType, Program, exit_status
from salad.cli.runs import test, train
from salad.config import ARGUMENTS, OPTIONS, Config
from salad.config.declare import TEST, TRAIN
from salad.config.recipes import RECIPES
from salad.datasets import DATASETS
from salad.errors import InputError, RunInterruptedError, StoppedError, give, printable, say

if TYPE_CHECKING:
    from salad.samples import Selection
    from salad.study.plan import Method

NET_NAME = "unet"  # of --recipe
COUNT = click.IntRange(min=1)
SET_BY_STUDY = {"seed": "--seeds", "resume": "", "overwrite": "", "out": "--out", "heatmaps": ""}
NAME = re.compile(r"[^\W_][\w.+-]{0,99}")  # of a method and its folder


@click.command(cls=Program, context_settings=HELP)
@click.argument("dataset", type=click.Choice([*DATASETS]), metavar="DATASET")
@click.argument("data_path", type=PathType())
@click.argument("options", nargs=-1, metavar="[-- OPTIONS]")
@click.option("--recipe", "recipes", type=click.Choice([*RECIPES]), multiple=True, help="Recipe to study; repeatable.")
@click.option(
    "--method", "methods", multiple=True, help="Further method, as NAME='NET_NAME OPTIONS' of train; repeatable."
)
@click.option("--seeds", type=COUNT, default=5, show_default=True, help="Number of seeds: 1, 2 and so on.")
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Divide all normal images, and the abnormal ones of test, by patient into this number of folds; each fold is "
    "tested by models trained on the others.  [default: the data set's own test images]",
)
@click.option("--jobs", type=COUNT, default=1, show_default=True, help="Runs at a time; they share the cores.")
@click.option("--out", type=PathType(), required=True, help="Folder of the study; the same command continues it.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def study(dataset: str, data_path: Path, options: tuple[str, ...], debug: bool, **given: Any) -> None:
    """Train and score several methods with several seeds, and compare them.

    Writes study.html, study.csv, study.tex, and the ROC curves as roc.pdf, roc.png and roc.svg to --out, and prints
    the table. OPTIONS after -- are options of train or test, for all runs. The same command continues an interrupted
    study; finished runs are not repeated.
    """
    with exit_status(debug=debug):
        try:
            run_study(dataset, data_path, options, **given)
        except KeyboardInterrupt as error:
            received = error.args[0] if error.args else signal.SIGINT
            raise RunInterruptedError(received, "the same command goes on") from None


def run_study(
    dataset: str,
    data_path: Path,
    options: Sequence[str],
    *,
    recipes: Sequence[str],
    methods: Sequence[str],
    **given: Any,
) -> None:
    """Plan the runs of a study, do them, and write what they have measured.

    Raises:
        InputError: the study cannot be planned.
        StoppedError: runs failed.
    """
    from salad.study import plan
    from salad.study.folds import divide, write_folds
    from salad.study.jobs import Programs, do_all
    from salad.study.write import write_study

    folds, out, jobs = given["folds"], given["out"], given["jobs"]
    lines = _named(methods, recipes)
    data = plan.Data(dataset_name=dataset, path=data_path)
    values = {name: _values(name, line, options, data=data) for name, line in lines.items()}
    selection = _common_selection(values)
    chosen = [_method(name, of, folds=folds is not None) for name, of in values.items()]
    facts = plan.describe(data, selection, folds=folds, methods=chosen)
    divided = divide(data, selection, folds) if folds else []
    with plan.lock(out):
        plan.keep(facts, out)
        parts = write_folds(divided, out) if folds else [data]
        runs = plan.plan(parts, chosen, range(1, given["seeds"] + 1), out)
        failures = do_all(runs, Programs(at_once=jobs), at_once=jobs)
        text = write_study(runs, failures=failures, facts=facts, command=shlex.join(["salad", *sys.argv[1:]]), out=out)
    if text:
        give(text)
    for failure in failures:
        say(f"{failure.job.name} failed: {failure.reason} (see {failure.job.log})")
    if failures:
        raise StoppedError(f"{len(failures)} of {len(runs)} runs failed; the same command tries them again")


def _named(methods: Iterable[str], recipes: Iterable[str]) -> dict[str, str]:
    """Collect NET_NAME and options of each recipe, and of each NAME='NET_NAME OPTIONS', by name.

    Raises:
        InputError: there is none, one has another form, or a name occurs twice or cannot be that of a folder.
    """
    named = {name: f"{NET_NAME} --recipe {name}" for name in recipes}
    for text in methods:
        name, _, line = text.partition("=")
        if not NAME.fullmatch(name) or not line.strip():
            raise InputError(
                f"--method is '{printable(text)}', but must be NAME='NET_NAME OPTIONS' with a NAME of letters, digits, "
                "dots, hyphens and underscores"
            )
        if name in named:
            raise InputError(f"two methods are called '{name}': give one another name")
        named[name] = line
    if not named:
        raise InputError("no method is given: add --recipe NAME or --method NAME='NET_NAME OPTIONS'")
    return named


def _values(name: str, line: str, options: Sequence[str], *, data: Any) -> dict[str, Any]:
    """Read the command line of a method as `salad train` and `salad test` would.

    Returns:
        Values of the options that were typed, by name.

    Raises:
        InputError: there is no such option, or a value is not allowed.
    """
    try:
        net_name, *words = [*shlex.split(line), *options]
    except ValueError as error:
        raise InputError(f"--method {name}: {error}") from None
    parameters = {parameter.name: parameter for command in (test, train) for parameter in command.params}
    reader = click.Command(name, params=[*parameters.values()], add_help_option=False)
    place = [data.dataset_name, net_name, name, str(data.path)]
    try:
        typed = dict(reader.make_context(name, [*place, *words]).params)
    except click.UsageError as error:
        raise InputError(f"method {name}: {error.format_message()}") from None
    load_config = typed.pop("load_config")
    del typed["debug"]
    values = gather(TRAIN, load_config, typed)
    Config.of(values)  # all checks that need no images
    kept = values if load_config else {key: value for key, value in typed.items() if value is not None and value != ()}
    for option, instead in SET_BY_STUDY.items():
        if kept.get(option) is not None and not load_config:
            raise InputError(f"method {name}: --{option} is set by the study{instead and f': use its {instead}'}")
        kept.pop(option, None)
    return kept


def _common_selection(values: dict[str, dict[str, Any]]) -> Selection:
    """Return the selection of images of the methods, without `val_share`, which each may choose.

    Raises:
        InputError: two methods differ in it.
    """
    from salad.samples import Selection
    from salad.study.plan import SELECTING

    first, *others = values
    for option in SELECTING:
        for other in others:
            if values[other].get(option) != values[first].get(option):
                raise InputError(
                    f"--{option} differs between the methods {first} and {other}, which must see the same images: give "
                    "it after --, for all"
                )
    chosen: dict[str, Any] = {option: values[first].get(option) for option in SELECTING}
    return Selection(**chosen)


def _method(name: str, values: dict[str, Any], *, folds: bool) -> Method:
    """Make a method of the values of its options; with folds, whose tables hold the selected images, without those."""
    from salad.study.plan import SELECTING, Method

    used = {option: value for option, value in values.items() if option not in ARGUMENTS}
    passed = {option: value for option, value in used.items() if not (folds and option in SELECTING)}
    # what the checkpoint knows, test takes from there
    tested = {option: value for option, value in passed.items() if not OPTIONS[option].facts.of_model}
    return Method(
        name=name,
        words=shlex.join([values["net_name"], *_words(used)]),
        net_name=values["net_name"],
        train=_words({option: passed[option] for option in passed if TRAIN in OPTIONS[option].facts.commands}),
        test=_words({option: tested[option] for option in tested if TEST in OPTIONS[option].facts.commands}),
    )


def _words(values: dict[str, Any]) -> list[str]:
    """Write values as words of the command line."""
    words: list[str] = []
    for name, value in values.items():
        if OPTIONS[name].kind is bool:
            words.append(f"--{name}" if value else f"--no_{name}")
        else:
            for item in value if OPTIONS[name].many else (value,):
                words += [f"--{name}", str(item)]
    return words
