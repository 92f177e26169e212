"""Read the elements of a DICOM file that describe its pixels, whatever their VR; faults are told by their keyword."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from salad.errors import InputError, shortage

if TYPE_CHECKING:
    from pydicom import Dataset


def whole_number(ds: Dataset, name: str, *, default: int | None = None) -> int:
    """Read a whole number.

    Args:
        ds: elements of the file.
        name: keyword of the element.
        default: value for an element that is absent or empty; without one, such a file is refused.

    Raises:
        InputError: the element is absent or empty, has several values, or is no whole number.
    """
    values = _values(ds, name)
    if not values:
        if default is None:
            raise InputError(f"a DICOM file without {name}")
        return default
    number = _as_number(values[0])
    if len(values) > 1 or number is None or number != int(number):
        raise InputError(f"a DICOM file whose {name} is not one whole number")
    return int(number)


def numbers(ds: Dataset, name: str) -> list[float | None]:
    """Read all values of an element; None for one that is empty or not a finite number."""
    return [_as_number(value) for value in _values(ds, name)]


def number(ds: Dataset, name: str, *, default: float) -> float:
    """Read the first value of an element that may be absent or empty.

    Raises:
        InputError: it is not a finite number.
    """
    values = _values(ds, name)
    found = _as_number(values[0]) if values else default
    if found is None:
        raise InputError(f"a DICOM file whose {name} is not a number")
    return found


def code(ds: Dataset, name: str) -> str:
    """Read a code string in upper case; empty if it is absent."""
    values = _values(ds, name)
    return _text(values[0]).upper() if len(values) == 1 else ""


def _values(ds: Dataset, name: str) -> list[object]:
    """Collect the values of an element, as pydicom converts them or, where it cannot, as text; none if it is empty."""
    from pydicom.multival import MultiValue

    try:
        value = ds[name].value if name in ds else None
    except Exception as error:  # a value that does not fit its VR
        if shortage(error):
            raise
        raw = ds.get_item(name)
        value = None if raw is None else raw.value
    if isinstance(value, bytes):
        value = int.from_bytes(value, _order(ds)) if len(value) == 2 else _text(value)
    if isinstance(value, str):
        value = value.split("\\")
    values = [*value] if isinstance(value, (MultiValue, list, tuple)) else [value]
    return [] if all(one is None or _text(one) == "" for one in values) else values


def _order(ds: Dataset) -> Literal["big", "little"]:
    return "big" if ds.original_encoding[1] is False else "little"


def _text(value: object) -> str:
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip(" \0\t\r\n")


def _as_number(value: object) -> float | None:
    """Convert a value; a decimal comma counts as a point."""
    try:
        found = float(_text(value).replace(",", "."))
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
