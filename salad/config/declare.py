"""Options: how one is declared, checked, and read from a JSON file."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salad.errors import InputError, printable

TRAIN, TEST, INSPECT, PREDICT, EXPORT = "train", "test", "inspect", "predict", "export"
SCORES_TOO = TRAIN, TEST, PREDICT
KNOWN_TO_FILES = *SCORES_TOO, EXPORT
MAX_CONFIG_BYTES = 2**20
MAX_SHOWN = 80  # characters of a value in a message
REMOVED = {"knn": ("exact", "faiss")}  # options that files of older versions name, with the values they may have there


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is declared of an option.

    Attributes:
        help: one sentence, with the unit.
        commands: the programs that take it.
        choices: the words it may be.
        low: the smallest value allowed.
        high: the largest value allowed.
        open_low: whether `low` itself is forbidden.
        may_change: whether a resumed run may have another value.
        bare: its value where the option is typed without one.
        of_model: whether scoring takes it from the checkpoint where it is not given.
        is_argument: whether it is typed by its place, without a name.
    """

    help: str
    commands: tuple[str, ...] = (TRAIN, TEST)
    choices: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    may_change: bool = False
    bare: str | None = None
    of_model: bool = False
    is_argument: bool = False


def option(default: Any, help: str, **facts: Any) -> Any:  # noqa: A002
    """Declare an option as the field of a section: its default, its help and other `Facts`."""
    return field(default=default, metadata={"facts": Facts(help=help, **facts)})


def argument(help: str, **facts: Any) -> Any:  # noqa: A002
    """Declare a positional argument as the field of a section."""
    return field(metadata={"facts": Facts(help=help, is_argument=True, **facts)})


@dataclass(frozen=True, kw_only=True)
class Option:
    """A declared option.

    Attributes:
        name: of the option, without hyphens.
        section: of the config that holds it.
        kind: type of its value, or of each of its values.
        many: whether it holds a tuple of values.
        default: value where none is given; `dataclasses.MISSING` of an argument.
        facts: what is declared of it.
    """

    name: str
    section: str
    kind: type
    many: bool
    default: Any
    facts: Facts

    @property
    def flag(self) -> str:
        """The option as messages name it."""
        return self.name.upper() if self.facts.is_argument else f"--{self.name}"

    def from_json(self, value: Any) -> Any:
        """Convert a JSON value to the type of the option where JSON has no such type; else it stays as it is."""
        if self.many and isinstance(value, list):
            return tuple(value)
        if self.kind is Path and isinstance(value, str):
            return Path(value)
        return float(value) if self.kind is float and type(value) is int else value

    def has_type(self, value: Any) -> bool:
        """Tell if a value is of the declared type; None is where the default is."""
        if value is None:
            return self.default is None
        if self.many != isinstance(value, tuple):
            return False
        accepted = (int, float) if self.kind is float else (self.kind,)
        values = value if self.many else (value,)
        return all(isinstance(one, accepted) and isinstance(one, bool) == (self.kind is bool) for one in values)

    def check(self, value: Any) -> None:
        """Raise `InputError` where a value is not what the declaration allows."""
        if not self.has_type(value):
            raise InputError(f"--{self.name} is {value!r}, but must be of type {self.kind.__name__}")
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                self._check_bounds(one)

    def _check_bounds(self, value: Any) -> None:
        facts = self.facts
        if facts.choices is not None and value not in facts.choices:
            raise InputError(f"--{self.name} is '{value}', but must be one of {', '.join(facts.choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"--{self.name} is {value}, but must be a finite number")
        if facts.low is not None and (value < facts.low or (value == facts.low and facts.open_low)):
            bound = f"{'above' if facts.open_low else 'at least'} {facts.low}"
            raise InputError(f"--{self.name} is {value}, but must be {bound}")
        if facts.high is not None and value > facts.high:
            raise InputError(f"--{self.name} is {value}, but must be at most {facts.high}")


def options_of(section: str, cls: type) -> list[Option]:
    """List the options that a section of the config declares."""
    hints = typing.get_type_hints(cls)
    found = []
    for declared in dataclasses.fields(cls):
        kind, many = _value_type(hints[declared.name])
        facts = declared.metadata["facts"]
        found.append(
            Option(name=declared.name, section=section, kind=kind, many=many, default=declared.default, facts=facts)
        )
    return found


def _value_type(hint: Any) -> tuple[type, bool]:
    """Type of a value, without None, and whether there may be several."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def read_values(path: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    """Read values from a JSON file such as the config.json of a run (its "run" entry is skipped).

    Args:
        path: the file; its keys are option names.
        options: that there are, by name.

    Raises:
        InputError: the file cannot be read, or holds a name or a value that no option takes.
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
    for name in values:
        if name not in options:
            close = difflib.get_close_matches(name, options, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InputError(f"--load_config {path}: no option is called '{_short(name)}'{hint}")
    return {name: _from_file(options[name], value, path) for name, value in values.items()}


def without_removed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the options of an older version's file that no longer exist."""
    return {name: value for name, value in values.items() if value not in REMOVED.get(name, ())}


def _from_file(declared: Option, value: Any, path: Path) -> Any:
    """Convert a value of a JSON file that anybody may have written."""
    try:
        converted = declared.from_json(value)
        if isinstance(converted, Path) and b"\0" in os.fsencode(converted):
            raise ValueError("NUL")
        if isinstance(converted, str) and printable(converted) != converted:
            raise ValueError("control characters")
    except (ValueError, OverflowError):  # no file, no word, or a whole number beyond all floats
        shown, kind = _short(repr(str(value))), declared.kind.__name__
        raise InputError(f"--load_config {path}: {declared.name} is {shown}, which no {kind} can be") from None
    if not declared.has_type(converted):
        shown, kind = _short(repr(value)), declared.kind.__name__
        raise InputError(f"--load_config {path}: {declared.name} is {shown}, but must be of type {kind}")
    return converted


def _short(text: str) -> str:
    """Cut text from a file to a part of one line of a message."""
    text = printable(text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
