"""The course of a training, from its metrics.jsonl."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """What metrics.jsonl says of each epoch.

    Attributes:
        source: that file.
        epochs: their numbers, at most `MAX_EPOCHS`, evenly among all.
        rounds: first epoch of each round, by its name.
        series: values by the title of what they are; None where an epoch has none. The validation AUC has three.
    """

    source: Path
    epochs: list[int]
    rounds: dict[str, int]
    series: dict[str, list[Any]]


def read_history(folders: list[Path]) -> History | None:
    """The first readable metrics.jsonl among some folders; None without one."""
    for folder in folders:
        lines = _read(folder / METRICS_FILE)
        if lines:
            return _history(lines, folder / METRICS_FILE)
    return None


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that anybody may have changed; those that are no JSON objects of an epoch are left out."""
    lines = []
    try:
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
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
