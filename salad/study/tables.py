"""Make the tables of a study: methods, subgroups, baselines and costs, as text for screen, page and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from salad.evaluation.tables import Table
from salad.evaluation.tidy import KINDS
from salad.study.jobs import shown_time
from salad.study.results import Row, mean

Cells = Mapping[str, Callable[[Row], str]]


def _spread(row: Row) -> str:
    return "" if row["sd"] is None else f"{row['sd']:.3f}"


def _interval(row: Row) -> str:
    return f"{row['auc']['low']:.3f} to {row['auc']['high']:.3f}" if row["auc"] else ""


def _auc(row: Row) -> str:
    return f"{row['auc']['value']:.3f}" if row["auc"] else ""


def _in_one_cell(row: Row) -> str:
    """Write mean, standard deviation and interval as in ``0.963 ± 0.003 (0.950 to 0.976)``."""
    spread = f" ± {_spread(row)}" if _spread(row) else ""
    return f"{_auc(row)}{spread} ({_interval(row)})" if row["auc"] else ""


def _pointing(row: Row) -> str:
    located = row["localisation"]
    return f"{mean(located['pointing_game'])} ({mean(located['by_chance'])})" if located else ""


def _median_time(key: str) -> Callable[[Row], str]:
    return lambda row: shown_time(float(np.median(seconds))) if (seconds := row.get(key)) else ""


def _size(row: Row) -> str:
    return f"{row['model_bytes'] / 1e6:.1f} MB" if row.get("model_bytes") else ""


AUC_CELLS: Cells = {"AUC": _auc, "SD": _spread, "95 % CI": _interval}
RATE_CELLS: Cells = {
    "specificity": lambda row: mean(row["specificity"], ".0%"),
    "sensitivity": lambda row: mean(row["sensitivity"], ".0%"),
}
PLACE_CELLS: Cells = {
    "pointing (by chance)": _pointing,
    "pixel AUC": lambda row: mean(row["localisation"].get("pixel_auc")),
    "beyond sharpness": lambda row: mean(row["within_sharpness"]),
}
BASELINE_CELLS: Cells = {
    "image mean / std / sharpness": lambda row: " / ".join(filter(None, map(mean, row["baselines"].values())))
}
COST_CELLS: Cells = {
    "training": _median_time("train_seconds"),
    "scoring": _median_time("test_seconds"),
    "model.tar": _size,
}
NAME_CELLS: Cells = {"method": lambda row: str(row["method"]), "runs": lambda row: str(row["runs"])}
"""Text of a cell by column; it is empty where a row has no such number."""


def table_of(rows: Sequence[Row], cells: Cells) -> Table:
    """Make a table of these cells, a row a method; a column that no method has is left out."""
    columns = {title: column for title, cell in cells.items() if any(column := [cell(row) for row in rows])}
    return Table([*columns], [list(row) for row in zip(*columns.values(), strict=True)])


def method_table(rows: Sequence[Row]) -> Table:
    """Make the table of the screen: what every method measures."""
    return table_of(rows, {**NAME_CELLS, **AUC_CELLS, **RATE_CELLS, **PLACE_CELLS, **BASELINE_CELLS, **COST_CELLS})


def paper_table(rows: Sequence[Row]) -> Table:
    """Make the table of study.tex: mean AUC, its spread and interval in one cell."""
    return table_of(rows, {**NAME_CELLS, "AUC": _in_one_cell, **RATE_CELLS})


def subgroup_table(rows: Sequence[Row]) -> Table:
    """Make the table of mean AUCs by finding, view, sex and age, a column a method; without rows if there are none."""
    names = dict.fromkeys((kind, name) for kind in KINDS for row in rows for name in row[f"by_{kind}"])
    cells = [[f"{kind} {name}", *(mean(row[f"by_{kind}"].get(name)) for row in rows)] for kind, name in names]
    return Table(["subgroup", *(row["method"] for row in rows)], [line for line in cells if any(line[1:])])
