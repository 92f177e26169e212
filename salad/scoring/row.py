"""Lines of the output of predict, as CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from salad.input_files import parse_json
from salad.runs.csv_file import csv_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Line of the output; unknown values are None.

    Attributes:
        path: path as given or listed, made `printable`; None of an image that has none.
        score: anomaly score; larger is more anomalous.
        percentile: share of normal validation images with a lower score, in percent.
        abnormal: True if the score is above the threshold of --specificity.
        seconds: processing time of the image.
        error: reason why the image cannot be read.
        note: doubts about the image or its score, which is scored all the same, separated by "; ".
        tags: further columns: elements of a DICOM file, by keyword.
    """

    path: str | None
    score: float | None
    percentile: float | None
    abnormal: bool | None
    seconds: float
    error: str | None
    note: str | None
    tags: Mapping[str, str | None] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Collect the values by column."""
        return {**{name: getattr(self, name) for name in COLUMNS}, **self.tags}


COLUMNS = tuple(name for name in Row.__slots__ if name != "tags")


@dataclass(frozen=True)
class Form:
    """Format of the output.

    Attributes:
        name: one of `FORMATS`.
        tags: keywords of the further columns, in their order; they are the same in all rows.
    """

    name: str
    tags: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return (*COLUMNS, *self.tags)

    @property
    def header(self) -> str:
        """First line of a new file, which only CSV has."""
        return csv_lines([self.columns]) if self.name == "csv" else ""

    def line(self, row: Row) -> str:
        """Format a row."""
        values = row.values()
        return FORMATS[self.name]({name: values.get(name) for name in self.columns})

    def is_begun(self, first: bytes) -> bool:
        """Check if the first line of a file, or as much of it as was written before a kill, is of this format."""
        if self.name == "csv":
            header = self.header.encode()
            text = first.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
            return text == header.strip() or (not first.endswith(b"\n") and header.startswith(text))
        if not first.endswith(b"\n"):
            return b'{"path": '.startswith(first[:9])
        try:
            values = parse_json(first)
        except ValueError:
            return False
        return isinstance(values, dict) and tuple(values) == self.columns


def _as_csv(values: Mapping[str, Any]) -> str:
    """Format values as a line of CSV; `abnormal` is 0 or 1."""
    abnormal = values["abnormal"]
    return csv_lines([{**values, "abnormal": None if abnormal is None else int(abnormal)}.values()])


def _as_json(values: Mapping[str, Any]) -> str:
    """Format values as a JSON object in a line."""
    return json.dumps(values, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {"csv": _as_csv, "jsonl": _as_json}
