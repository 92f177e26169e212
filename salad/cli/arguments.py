"""Arguments of the commands that read a data set: all of them typed, or those that an option or a model stands for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salad.cli.program import PathType
from salad.config import ARGUMENTS, OPTIONS
from salad.config.declare import INSPECT, TEST, TRAIN, path_of
from salad.errors import InputError, printable

if TYPE_CHECKING:
    from salad.checkpoint import Checkpoint

OWN_DATA = "Folders"  # data set of --normal
OWN_NETWORK = "unet"  # network that main.py trains with --normal
SHORT_FORMS = {
    TRAIN: "XP_PATH --normal DIR [--abnormal DIR]",
    TEST: "XP_PATH [--normal DIR] [--abnormal DIR]",
    INSPECT: "--normal DIR [--abnormal DIR]",
}
STANDS_FOR = {
    TRAIN: f"stands for DATASET_NAME {OWN_DATA}, NET_NAME {OWN_NETWORK} and this DATA_PATH  [default: none]",
    TEST: f"stands for DATASET_NAME {OWN_DATA} and this DATA_PATH  [default: data set and DATA_PATH of the training]",
    INSPECT: f"stands for DATASET_NAME {OWN_DATA} and this DATA_PATH  [default: none]",
}
SCRIPTS = {TRAIN: "main.py", TEST: "test.py"}


def names_of(program: str) -> list[str]:
    """List the names of the arguments of a command, in their order."""
    return [name for name in ARGUMENTS if program in OPTIONS[name].facts.commands]


def forms_of(program: str) -> str:
    """Word both forms of the arguments of a command."""
    return f"{' '.join(map(str.upper, names_of(program)))}  or  {SHORT_FORMS[program]}"


def normal_option(program: str) -> click.Option:
    """Make the option --normal of a command."""
    return click.Option(
        ["--normal"], type=PathType(), help=f"Folder of normal images, with its subfolders; {STANDS_FOR[program]}"
    )


def resolve(values: Mapping[str, Any], program: str) -> dict[str, Any]:
    """Assign the typed words to the arguments that they are, and replace --normal by those that it stands for.

    Args:
        values: values of the command line by name, None for what was not typed; the parser has assigned the words from
            the first argument on.
        program: name of the command.

    Raises:
        InputError: there are neither all arguments nor those of the short form, or --normal comes besides all.
    """
    names, normal = names_of(program), values.get("normal")
    words = [values[name] for name in names if values.get(name) is not None]
    others = {name: value for name, value in values.items() if name not in (*names, "normal")}
    short = [name for name in names if name == "xp_path"]
    if len(words) == len(names):
        if normal is not None:
            raise InputError(f"--normal stands for the data set and DATA_PATH, typed too: give  {forms_of(program)}")
        return {**others, **dict(zip(names, words, strict=True))}
    if len(words) > len(short):
        count = f"{len(words)} argument{'s' * (len(words) != 1)}"
        raise InputError(f"{count}, but {len(names)} or {len(short)} are needed: give  {forms_of(program)}")
    for name, word in zip(short, words, strict=False):
        try:
            others[name] = path_of(word)
        except ValueError as error:
            raise InputError(f"{OPTIONS[name].flag}: {error}") from None
    return {**others, **({"dataset_name": OWN_DATA, "data_path": normal} if normal is not None else {})}


def complete(values: Mapping[str, Any], program: str) -> dict[str, Any]:
    """Add the default network to the values of a command, and check that no argument is missing.

    Raises:
        InputError: an argument is missing; test.py takes those of the data set and the network from the model.
    """
    completed = {**({"net_name": OWN_NETWORK} if program == TRAIN else {}), **values}
    needed = names_of(program) if program != TEST else ["xp_path"]
    if missing := [OPTIONS[name].flag for name in needed if name not in completed]:
        verb, first = "is" if len(missing) == 1 else "are", ""
        if program == TEST:
            first = f"; train first:  {shlex.join(command_words(TRAIN))} {SHORT_FORMS[TRAIN]}"
        raise InputError(f"{', '.join(missing)} {verb} missing: give  {forms_of(program)}{first}")
    return completed


def add_trained(given: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """Add the data set, the network and DATA_PATH of the training where they are not given.

    Raises:
        InputError: the file does not name them, or the data set is no longer there.
    """
    if "dataset_name" in given:
        return {"net_name": checkpoint.net_name, **given}
    trained, where = checkpoint.config or {}, printable(checkpoint.path)
    if not {"dataset_name", "data_path"} <= trained.keys():
        raise InputError(f"{where}: does not name the data set of its training: give {forms_of(TEST)}")
    data_path = Path(trained["data_path"])
    if not data_path.exists():
        own = f"--normal DIR or {' '.join(map(str.upper, names_of(TEST)))}"
        raise InputError(
            f"{printable(data_path)}: DATA_PATH of the training is no longer there: name it anew with {own}"
        )
    known = {"dataset_name": trained["dataset_name"], "net_name": checkpoint.net_name, "data_path": data_path}
    return {**known, **given}


def how_to_train(given: Mapping[str, Any]) -> str:
    """Compose the command that trains what test.py was asked to score."""
    data = [str(given["data_path"])] if "data_path" in given else ["DIR"]
    words = [str(given["xp_path"]), "--normal", *data]
    if all(name in given for name in ARGUMENTS):
        words = [str(given[name]) for name in ARGUMENTS]
    abnormal = ["--abnormal", str(given["abnormal"])] if "abnormal" in given else []
    return shlex.join([*command_words(TRAIN), *words, *abnormal, "--recipe", "strong"])


def command_words(program: str) -> list[str]:
    """Word the command train or test as the user calls the other one: ``salad test`` or ``python test.py``."""
    *group, _ = click.get_current_context().command_path.split()
    return [*group, program] if group else ["python", SCRIPTS[program]]
