"""Read the history of a training from its metrics.jsonl."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad.input_files import parse_json, read_input
from salad.losses import LOSSES
from salad.report.curves import evenly
from salad.runs.folder import METRICS_FILE

TITLES = {
    "loss": "Loss, weighted sum",
    **{name: spec.title for name, spec in LOSSES.items()},
    "spread": "Spread of embeddings (0: one point)",
    "val_auc": "Validation AUC",
}
MAX_EPOCHS = 400


@dataclass(frozen=True, kw_only=True)
class History:
    """Metrics of a training by epoch.

    Attributes:
        source: path of the metrics.jsonl.
        epochs: numbers of the epochs; of more than `MAX_EPOCHS`, evenly spaced ones.
        rounds: first epoch of each round by its name; empty with more than 40 rounds.
        series: values of the epochs by the title of the metric; None where an epoch has no value. A value of the
            validation AUC is a list of AUC, lower and upper end of its 95 % interval.
    """

    source: Path
    epochs: list[int]
    rounds: dict[str, int]
    series: dict[str, list[Any]]


def read_history(folders: list[Path]) -> History | None:
    """Read the metrics.jsonl of the first folder that has a readable one; None without one, or without training."""
    for folder in folders:
        lines = _read(folder / METRICS_FILE)
        if lines:
            return _history(lines, folder / METRICS_FILE) if lines[-1]["epoch"] > 0 else None
    return None


def _read(path: Path) -> list[dict[str, Any]]:
    """Read the lines that are JSON objects of an epoch; the file may have been edited, so others are left out."""
    lines = []
    try:
        for text in read_input(path).splitlines():
            try:
                line = parse_json(text, allow_nan=True)
            except ValueError:
                continue
            if isinstance(line, dict) and _number(line.get("epoch")) is not None:
                lines.append(line)
    except OSError:
        pass
    return lines


def _history(lines: list[dict[str, Any]], source: Path) -> History:
    rounds: dict[str, int] = {}
    for line in lines:
        name = "pre-training" if line.get("round") is None else f"round {line['round']}"
        rounds.setdefault(name[:20], int(line["epoch"]))
    kept = [lines[i] for i in evenly(len(lines), most=MAX_EPOCHS)]
    series: dict[str, list[Any]] = {}
    for name, title in TITLES.items():
        values = [_number(line.get(name)) for line in kept]
        if any(value is not None for value in values):
            series[title] = values
    title = TITLES["val_auc"]
    if title in series:
        series[title] = [
            None if value is None else [value, *_ends(line.get("val_auc_ci95"))]
            for value, line in zip(series[title], kept, strict=True)
        ]
    rounds = rounds if len(rounds) <= 40 else {}
    return History(source=source, epochs=[int(line["epoch"]) for line in kept], rounds=rounds, series=series)


def _ends(interval: Any) -> list[float | None]:
    return [_number(end) for end in interval] if isinstance(interval, list) and len(interval) == 2 else [None, None]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
