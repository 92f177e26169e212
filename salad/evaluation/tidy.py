"""Tidy tables of results: one row for each run, method or pair and each of its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from salad.runs.csv_file import csv_lines

COLUMNS = (
    "level",
    "method",
    "other",
    "run",
    "seed",
    "fold",
    "subset",
    "metric",
    "value",
    "low",
    "high",
    "num_normal",
    "num_abnormal",
)
"""Columns: level is run, method or pair; other is the second method, or run, of a pair; low and high are the ends of
the 95 % interval; a cell that does not apply is empty."""
ALL = "all"  # subset of the metrics of all images
KINDS = ("finding", "view", "sex", "age")  # of subgroups
NO_METRICS = {"k", "made_from", "memory", "num_abnormal", "num_normal", "num_resamples", "seed"}  # of a metrics.json

Row = dict[str, Any]


def tidy_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Format rows, by names of `COLUMNS`, as CSV with a header; numbers keep all their digits."""
    cells = [["" if (value := row.get(name)) is None else value for name in COLUMNS] for row in rows]
    return csv_lines([COLUMNS, *cells])


def metric_rows(result: Mapping[str, Any]) -> Iterator[Row]:
    """List every number of a metrics.json, as rows with subset, metric, value, its interval and numbers of images.

    Metrics have the names of metrics.json, with a dot before an inner one, such as ``at_threshold.sensitivity``. The
    AUC of a subgroup is the metric ``auc`` of a subset such as ``view PA``.
    """
    sizes = {name: result.get(name) for name in ("num_normal", "num_abnormal")}
    for name, value in result.items():
        kind = name.removeprefix("auc_by_")
        if kind in KINDS and isinstance(value, Mapping):
            for group, area in value.items():
                yield from _rows("auc", area, subset=f"{kind} {group}", sizes=sizes)
        else:
            yield from _rows(name, value, subset=ALL, sizes=sizes)


def _rows(metric: str, value: Any, *, subset: str, sizes: Mapping[str, Any]) -> Iterator[Row]:
    """List the numbers at any depth of a value."""
    if metric.rpartition(".")[2] in NO_METRICS:
        return
    if isinstance(value, Mapping) and "value" in value:
        ends = {name: value.get(name) for name in ("value", "low", "high")}
        own = {name: value.get(name, size) for name, size in sizes.items()}
        yield {"subset": subset, "metric": metric, **ends, **own}
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _rows(f"{metric}.{name}", inner, subset=subset, sizes=sizes)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield {"subset": subset, "metric": metric, "value": value, **sizes}
