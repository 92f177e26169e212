"""Declaration of options, their checks, and values from a JSON file."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salad.errors import InputError, printable
from salad.input_files import parse_json, read_input

TRAIN, TEST, INSPECT, PREDICT, EXPORT, ENROL = "train", "test", "inspect", "predict", "export", "enrol"
SCORES_TOO = TRAIN, TEST, PREDICT
KNOWN_TO_FILES = *SCORES_TOO, EXPORT
MAX_CONFIG_BYTES = 2**20
MAX_SHOWN = 80  # characters of a value that a message shows
REMOVED = {"knn": ("exact", "faiss")}  # options that no longer exist, with the values that older files hold


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Declaration of an option: help, bounds and the commands that take it.

    Attributes:
        help: one or two sentences, with the unit.
        commands: commands that take the option.
        choices: allowed words.
        low: smallest value allowed.
        high: largest value allowed.
        open_low: True if `low` itself is forbidden.
        may_change: True if a resumed run may have another value.
        bare: value of the option when it is typed without one.
        of_model: True if scoring takes the value from the checkpoint unless it is given.
        is_argument: True for a positional argument.
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
    """Declare an option as a field of a section, with its default, its help and other `Facts`."""
    return field(default=default, metadata={"facts": Facts(help=help, **facts)})


def argument(help: str, **facts: Any) -> Any:  # noqa: A002
    """Declare a positional argument as a field of a section."""
    return field(metadata={"facts": Facts(help=help, is_argument=True, **facts)})


@dataclass(frozen=True, kw_only=True)
class Option:
    """Declared option with its section, type, default and bounds.

    Attributes:
        name: name without hyphens.
        section: section of the config that holds the option.
        kind: type of the value, or of each value of a tuple.
        many: True if the option holds a tuple of values.
        default: value if none is given; `dataclasses.MISSING` for an argument.
        facts: declaration of the option.
    """

    name: str
    section: str
    kind: type
    many: bool
    default: Any
    facts: Facts

    @property
    def flag(self) -> str:
        """Name of the option in messages: --name, or NAME of an argument."""
        return self.name.upper() if self.facts.is_argument else f"--{self.name}"

    def from_json(self, value: Any) -> Any:
        """Convert a JSON value to a type that JSON lacks (tuple, path, float); return other values unchanged."""
        if self.many and isinstance(value, (list, tuple)):
            return tuple(path_of(item) if self.kind is Path and isinstance(item, str) else item for item in value)
        if self.kind is Path and isinstance(value, str):
            return path_of(value)
        return float(value) if self.kind is float and type(value) is int else value

    def has_type(self, value: Any) -> bool:
        """Check the type of a value; None is allowed if it is the default."""
        if value is None:
            return self.default is None
        if self.many != isinstance(value, tuple):
            return False
        accepted = (int, float) if self.kind is float else (self.kind,)
        values = value if self.many else (value,)
        return all(isinstance(item, accepted) and isinstance(item, bool) == (self.kind is bool) for item in values)

    def check(self, value: Any) -> None:
        """Raise `InputError` if the declaration does not allow a value."""
        if not self.has_type(value):
            raise InputError(f"--{self.name} is {_brief(value)}, but must be of type {self.kind.__name__}")
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Path) and "\0" in str(item):
                raise InputError(f"--{self.name} is {_brief(str(item))}, but no name of a file has a NUL byte")
            if item is not None:
                self._check_bounds(item)

    def _check_bounds(self, value: Any) -> None:
        """Raise `InputError` if a value is not among the choices or outside the bounds."""
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


def path_of(text: str) -> Path:
    """Convert text to a path.

    Raises:
        ValueError: the text is empty or blank, which would mean the current folder.
    """
    if not text.strip() and not os.path.lexists(text):
        raise ValueError("an empty path: is a variable not set? A dot stands for the current folder")
    return Path(text)


def options_of(section: str, cls: type) -> list[Option]:
    """Collect the options that a section of the config declares."""
    hints = typing.get_type_hints(cls)
    options = []
    for declared in dataclasses.fields(cls):
        kind, many = _value_type(hints[declared.name])
        facts = declared.metadata["facts"]
        options.append(
            Option(name=declared.name, section=section, kind=kind, many=many, default=declared.default, facts=facts)
        )
    return options


def _value_type(hint: Any) -> tuple[type, bool]:
    """Read a type hint: the type of a value without None, and True if the option holds several."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def read_values(path: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    """Read values from a JSON file such as the config.json of a run (its "run" entry is skipped).

    Args:
        path: JSON file of option names and values.
        options: all options, by name.

    Raises:
        InputError: the file cannot be read, or it holds an unknown name or a value of a wrong type.
    """
    try:
        values = parse_json(read_input(path, most=MAX_CONFIG_BYTES))
    except OSError as error:
        raise InputError(f"--load_config {path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"--load_config {path}: not a JSON file ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"--load_config {path}: must hold a JSON object with option names as keys")
    values.pop("run", None)
    values = without_removed(values)
    for name in values:
        if name not in options:
            raise InputError(f"--load_config {path}: no option is called '{_short(name)}'{suggestion(name, options)}")
    return {name: _from_file(options[name], value, path) for name, value in values.items()}


def suggestion(name: str, names: Iterable[str]) -> str:
    """Word the hint that another name was meant; empty where none is close."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def without_removed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop options of older versions that no longer exist."""
    return {name: value for name, value in values.items() if value not in REMOVED.get(name, ())}


def _from_file(declared: Option, value: Any, path: Path) -> Any:
    """Convert and check a value of a JSON file from an unknown source."""
    try:
        converted = declared.from_json(value)
        if isinstance(converted, Path) and b"\0" in os.fsencode(converted):
            raise ValueError("NUL")
        if isinstance(converted, str) and printable(converted) != converted:
            raise ValueError("control characters")
    except (ValueError, OverflowError):  # not a path, not printable, or an integer too large for a float
        shown, kind = _short(repr(str(value))), declared.kind.__name__
        raise InputError(f"--load_config {path}: {declared.name} is {shown}, which no {kind} can be") from None
    if not declared.has_type(converted):
        shown, kind = _short(repr(value)), declared.kind.__name__
        raise InputError(f"--load_config {path}: {declared.name} is {shown}, but must be of type {kind}")
    return converted


def _brief(value: Any) -> str:
    """Show a value from an unknown source, such as lists in lists whose whole text would fill the memory."""
    shown = reprlib.Repr()
    shown.maxlevel, shown.maxstring, shown.maxother = 2, MAX_SHOWN, MAX_SHOWN
    try:
        return shown.repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a huge {type(value).__name__}"


def _short(text: str) -> str:
    """Make text printable and shorten it to fit into a message."""
    text = printable(text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
