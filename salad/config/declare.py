"""How a parameter is declared, checked, and read from a JSON file."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import types
import typing
from dataclasses import field
from pathlib import Path
from typing import Any

from salad.errors import InputError, printable

TRAIN, TEST, INSPECT, PREDICT, EXPORT = "train", "test", "inspect", "predict", "export"
MAX_CONFIG_BYTES = 2**20
MAX_SHOWN = 80  # characters of a value in a message
REMOVED = {"knn": ("exact", "faiss")}  # options that files of older versions name, with the values they may have there


def option(
    default: Any,
    help: str,  # noqa: A002
    *,
    commands: tuple[str, ...] = (TRAIN, TEST),
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    may_change: bool = False,
    bare: str | None = None,
) -> Any:
    """Declare a parameter.

    Args:
        default: its value where none is given.
        help: one sentence, with the unit.
        commands: which of the programs take it.
        choices: the words it may be.
        low: the smallest value allowed.
        high: the largest value allowed.
        open_low: whether `low` itself is forbidden.
        may_change: whether a resumed run may have another value.
        bare: its value where the option is typed without one.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "commands": commands,
            "choices": choices,
            "low": low,
            "high": high,
            "open_low": open_low,
            "may_change": may_change,
            "bare": bare,
        },
    )


def argument(help: str, *, commands: tuple[str, ...] = (TRAIN, TEST), may_change: bool = False) -> Any:  # noqa: A002
    """Declare a positional parameter."""
    return field(
        metadata={
            "help": help,
            "commands": commands,
            "may_change": may_change,
        }
    )


def value_type(cls: type, name: str) -> tuple[type, bool]:
    """The type of a parameter's value (without None), and whether the parameter holds a tuple of them."""
    hint = typing.get_type_hints(cls)[name]
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def read_values(path: Path, cls: type) -> dict[str, Any]:
    """Values from a JSON file such as the config.json of a run (its "run" entry is skipped).

    Args:
        path: the file; its keys are option names.
        cls: the dataclass that declares them.

    Raises:
        InputError: the file cannot be read, or holds a name or a value that no parameter takes.
    """
    try:
        with path.open("rb") as file:  # a pipe may be given, so what is read is counted
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise InputError(f"--load_config {path}: larger than {MAX_CONFIG_BYTES:,} bytes, no file of options")
        values = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise InputError(f"--load_config {path}: cannot be read ({error.strerror})") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # JSON syntax, encoding, brackets a hundred thousand deep
        raise InputError(f"--load_config {path}: not a JSON file ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"--load_config {path}: holds no JSON object with option names as keys")
    values.pop("run", None)
    values = without_removed(values)
    known = {declared.name: declared for declared in dataclasses.fields(cls)}
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InputError(f"--load_config {path}: no option is called '{_short(name)}'{hint}")
    return {name: _from_file(cls, known[name], value, path) for name, value in values.items()}


def without_removed(values: dict[str, Any]) -> dict[str, Any]:
    """The options of a file of this version or an older one, without those that no longer exist."""
    return {name: value for name, value in values.items() if value not in REMOVED.get(name, ())}


def _from_file(cls: type, declared: dataclasses.Field[Any], value: Any, path: Path) -> Any:
    """A value of a JSON file that anybody may have written."""
    kind = value_type(cls, declared.name)[0].__name__
    try:
        converted = value_from_json(cls, declared.name, value)
        if isinstance(converted, Path) and b"\0" in os.fsencode(converted):
            raise ValueError("NUL")
        if isinstance(converted, str) and printable(converted) != converted:
            raise ValueError("control characters")
    except (ValueError, OverflowError):  # no file, no word, or a whole number beyond all floats
        shown = _short(repr(str(value)))
        raise InputError(f"--load_config {path}: {declared.name} is {shown}, which no {kind} can be") from None
    if not _has_type(cls, declared, converted):
        shown = _short(repr(value))
        raise InputError(f"--load_config {path}: {declared.name} is {shown}, but must be of type {kind}")
    return converted


def value_from_json(cls: type, name: str, value: Any) -> Any:
    """A JSON value as the type that the parameter has, where JSON has no such type; else as it is."""
    kind, many = value_type(cls, name)
    if many and isinstance(value, list):
        return tuple(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    return float(value) if kind is float and type(value) is int else value


def _short(text: str) -> str:
    """Text from a file as a part of one line of a message."""
    text = printable(text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _has_type(cls: type, declared: dataclasses.Field[Any], value: Any) -> bool:
    kind, many = value_type(cls, declared.name)
    if value is None:
        return declared.default is None
    if many != isinstance(value, tuple):
        return False
    accepted = (int, float) if kind is float else (kind,)
    values = value if many else (value,)
    return all(isinstance(one, accepted) and isinstance(one, bool) == (kind is bool) for one in values)


def check(cls: type, declared: dataclasses.Field[Any], value: Any) -> None:
    """Raise `InputError` where a value is not what its declaration in a dataclass allows."""
    if not _has_type(cls, declared, value):
        raise InputError(
            f"--{declared.name} is {value!r}, but must be of type {value_type(cls, declared.name)[0].__name__}"
        )
    choices, low, high = (declared.metadata.get(name) for name in ("choices", "low", "high"))
    for one in value if isinstance(value, tuple) else (value,):
        if one is None:
            continue
        if choices is not None and one not in choices:
            raise InputError(f"--{declared.name} is '{one}', but must be one of {', '.join(choices)}")
        if isinstance(one, float) and not math.isfinite(one):
            raise InputError(f"--{declared.name} is {one}, but must be a finite number")
        if low is not None and (one < low or (one == low and declared.metadata["open_low"])):
            bound = f"{'above' if declared.metadata['open_low'] else 'at least'} {low}"
            raise InputError(f"--{declared.name} is {one}, but must be {bound}")
        if high is not None and one > high:
            raise InputError(f"--{declared.name} is {one}, but must be at most {high}")
