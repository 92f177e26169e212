"""Results of `benchmarks.quality`: numbers of the runs of a method, and their Markdown table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.protocol import JITTERED
from salad.runs.folder import RESULT_FILE
from salad.study.results import Row, mean, read_outcome, values_of
from salad.study.results import measure as measure_outcomes
from salad.study.tables import AUC_CELLS, BASELINE_CELLS, COST_CELLS, PLACE_CELLS, RATE_CELLS, Cells, table_of


def measure(runs: Sequence[Path], scoring: str = "") -> Row:
    """Collect the results of the runs of one method on one data set.

    Args:
        runs: folders of the runs, one a seed.
        scoring: folder of a scoring in each of them; empty for the test of the runs themselves, which has jittered
            images besides.
    """
    outcomes = [
        read_outcome(run / scoring, name=str(run / scoring), method="", seed=seed)
        for seed, run in enumerate(runs, start=1)
    ]
    row = measure_outcomes(outcomes)
    if scoring:
        return row
    files = [file for run in runs if (file := run / JITTERED / RESULT_FILE).exists()]
    jittered = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {**row, "jittered": values_of(jittered, "auc", "value")}


CELLS: Cells = {
    "data": lambda row: str(row["data"]),
    "method": lambda row: str(row["method"]),
    "seeds": lambda row: str(len(row["seeds"])),
    **AUC_CELLS,
    **RATE_CELLS,
    "by view": lambda row: ", ".join(f"{view} {mean(aucs)}" for view, aucs in row["by_view"].items() if aucs),
    **PLACE_CELLS,
    "jittered": lambda row: mean(row.get("jittered")),
    **BASELINE_CELLS,
    **COST_CELLS,
}
"""Text of a cell by column; it is empty where a row has no such number."""


def table(rows: Sequence[Row], cells: Cells = CELLS) -> str:
    """Format the results as a Markdown table; a column that no row has is left out."""
    made = table_of(rows, cells)
    lines = [made.header, ["---"] * len(made.header), *made.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
