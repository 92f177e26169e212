"""Results of `benchmarks.quality`: numbers of the runs of a method, and their Markdown table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.protocol import JITTERED
from salad.evaluation.comparison import group_auc, read_run
from salad.evaluation.metrics import BASELINES
from salad.runs.folder import MODEL_FILE, RESULT_FILE

TIMES = "seconds.json"
MAPS = ("score_map", "memory_map", "error_map")  # of metrics.json, the most telling first

Row = dict[str, Any]


def measure(runs: Sequence[Path], scoring: str = "") -> Row:
    """Collect the results of the runs of one method on one data set.

    Args:
        runs: folders of the runs.
        scoring: folder of a scoring in each of them; empty for the test of the runs themselves, which has times, size
            and jittered images besides.
    """
    folders = [run / scoring for run in runs]
    results = [_read(folder / RESULT_FILE) for folder in folders]
    both = [read_run(str(folder)) for folder, result in zip(folders, results, strict=True) if result["auc"]]
    aucs = [run.auc.value for run in both]
    row = {
        "aucs": aucs,
        "auc": group_auc(both).as_json() if both else None,
        "sd": float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None,
        "within_sharpness": _values(results, "auc_within_sharpness", "value"),
        "specificity": _values(results, "at_threshold", "specificity", "value"),
        "sensitivity": _values(results, "at_threshold", "sensitivity", "value"),
        "by_view": {view: _values(results, "auc_by_view", view, "value") for view in results[0].get("auc_by_view", {})},
        "localisation": _localisation(results),
        "baselines": {name: (area := results[0]["baseline_auc"][name]) and area["value"] for name in BASELINES},
    }
    if scoring:
        return row
    times = [_read(file) for run in runs if (file := run / TIMES).exists()]
    jittered = [_read(file) for run in runs if (file := run / JITTERED / RESULT_FILE).exists()]
    return {
        **row,
        "jittered": _values(jittered, "auc", "value"),
        "train_seconds": [seconds["train"] for seconds in times],
        "test_seconds": [seconds["test"] for seconds in times],
        "model_bytes": (runs[0] / MODEL_FILE).stat().st_size,
    }


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _values(results: Sequence[Any], *keys: str) -> list[float]:
    """Collect the number under these keys of each result that has one."""
    for key in keys:
        results = [inner for result in results if (inner := result.get(key)) is not None]
    return [*results]


def _localisation(results: Sequence[Row]) -> dict[str, list[float]]:
    """Collect the numbers of the first map of `MAPS` that the results have; empty without marked images."""
    located = [of for result in results if (of := result.get("localisation"))]
    name = next((name for name in MAPS if located and name in located[0]), None)
    if name is None:
        return {}
    return {
        "pointing_game": _values(located, name, "pointing_game", "value"),
        "by_chance": _values(located, "pointing_game_by_chance"),
        "pixel_auc": _values(located, name, "pixel_auc", "value"),
    }


def _mean(values: Sequence[float] | None, form: str = ".3f") -> str:
    return format(np.mean(values), form) if values else ""


def _pointing(row: Row) -> str:
    places = row["localisation"]
    return f"{_mean(places['pointing_game'])} ({_mean(places['by_chance'])})" if places else ""


def _baselines(row: Row) -> str:
    return " / ".join(f"{auc:.3f}" for auc in row["baselines"].values() if auc is not None)


def _seconds(row: Row) -> str:
    times = [row.get("train_seconds"), row.get("test_seconds")]
    return ", ".join(f"{np.median(seconds):.0f} s" for seconds in times if seconds)


CELLS: dict[str, Callable[[Row], str]] = {
    "data": lambda row: str(row["data"]),
    "method": lambda row: str(row["method"]),
    "seeds": lambda row: str(len(row["seeds"])),
    "AUC": lambda row: f"{row['auc']['value']:.3f}" if row["auc"] else "",
    "SD": lambda row: f"{row['sd']:.3f}" if row["sd"] is not None else "",
    "95 % CI": lambda row: f"{row['auc']['low']:.3f} to {row['auc']['high']:.3f}" if row["auc"] else "",
    "specificity": lambda row: _mean(row["specificity"], ".0%"),
    "sensitivity": lambda row: _mean(row["sensitivity"], ".0%"),
    "by view": lambda row: ", ".join(f"{view} {_mean(aucs)}" for view, aucs in row["by_view"].items() if aucs),
    "pointing (by chance)": _pointing,
    "pixel AUC": lambda row: _mean(row["localisation"].get("pixel_auc")),
    "as sharp": lambda row: _mean(row["within_sharpness"]),
    "jittered": lambda row: _mean(row.get("jittered")),
    "image mean / std / sharpness": _baselines,
    "training, scoring": _seconds,
    "model.tar": lambda row: f"{row['model_bytes'] / 1e6:.0f} MB" if "model_bytes" in row else "",
}
"""Text of a cell by column; it is empty where a row has no such number."""


def table(rows: Sequence[Row]) -> str:
    """Format the results as a Markdown table; a column that no row has is left out."""
    columns = {title: cells for title, cell in CELLS.items() if any(cells := [cell(row) for row in rows])}
    lines = [[*columns], ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
