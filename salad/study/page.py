"""Compose study.html, the page of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import salad
from salad.errors import printable
from salad.evaluation.comparison import Pair
from salad.evaluation.tables import pair_table
from salad.report.page import render_page
from salad.study.jobs import Failure, shown_time
from salad.study.plan import Run
from salad.study.results import Outcome, Row
from salad.study.roc import style_of
from salad.study.tables import (
    AUC_CELLS,
    BASELINE_CELLS,
    COST_CELLS,
    NAME_CELLS,
    PLACE_CELLS,
    RATE_CELLS,
    subgroup_table,
    table_of,
)


@dataclass(frozen=True, kw_only=True)
class Content:
    """Contents of the page.

    Attributes:
        facts: of study.json.
        command: command line of the study.
        runs: all runs, done or not.
        failures: runs that failed.
        outcomes: results of those that are done.
        rows: numbers of each method that has any.
        pairs: differences between methods.
        figure: data URL of the ROC curves; None without an AUC.
    """

    facts: dict[str, Any]
    command: str
    runs: Sequence[Run]
    failures: Sequence[Failure]
    outcomes: Sequence[Outcome]
    rows: Sequence[Row]
    pairs: Sequence[Pair]
    figure: str | None


def make_page(content: Content) -> str:
    """Compose the text of study.html."""
    rows = content.rows
    sections = [
        ("rates", "At the threshold", RATES_NOTE, table_of(rows, {**_FIRST, **RATE_CELLS, **PLACE_CELLS})),
        ("pairs", "Differences between methods", pair_note(content.facts["folds"]), pair_table(content.pairs)),
        ("subgroups", "By finding, view, sex and age", SUBGROUPS_NOTE, subgroup_table(rows)),
        ("baselines", "Without a model", BASELINES_NOTE, table_of(rows, {**_FIRST, **BASELINE_CELLS})),
        ("costs", "Time and size", COSTS_NOTE, table_of(rows, {**_FIRST, **COST_CELLS})),
    ]
    facts = content.facts
    return render_page(
        "study.html",
        styles=("report.css", "study.css"),
        title=printable(f"{facts['dataset_name']}: {len(facts['methods'])} methods"),
        subtitle=printable(facts["data_path"]),
        tiles=_tiles(content),
        note=_failure_note(content),
        aucs=_aucs(content),
        auc_note=auc_note(facts["folds"]),
        figure=content.figure,
        sections=[section for section in sections if section[3].rows and len(section[3].header) > 1],
        runs=_runs(content),
        facts=_facts(content),
        command=printable(content.command),
    )


_FIRST = {"method": NAME_CELLS["method"]}
RATES_NOTE = (
    "Means over the runs. Sensitivity and specificity are at the threshold of the validation normals; beyond "
    "sharpness: AUC within quintiles of sharpness."
)
SUBGROUPS_NOTE = "Mean AUCs over the runs. A finding is compared with all normal images."
BASELINES_NOTE = (
    "AUCs of mean, standard deviation and sharpness of the images as each method sees them. A model that is no better "
    "than the largest AUC or 1 - AUC among them has learnt nothing."
)
COSTS_NOTE = "Medians over the runs that were not interrupted, with the start of the program."


def auc_note(folds: int | None) -> str:
    """Say what mean, interval and standard deviation are taken over."""
    if folds is None:
        return (
            "Mean over the seeds, with DeLong's interval for other test images; SD: over the seeds. Curves are "
            "the mean over the runs at each specificity; their band is one SD."
        )
    return (
        f"Mean of the AUCs of {folds} folds, each tested on its own films by models that have not seen their patients. "
        "Interval for other films: DeLong's variance within each fold, the sum over folds divided by their number "
        "squared. SD: over the seeds, or over the folds of a single seed. Curves are the mean over the runs at each "
        "specificity; their band is one SD."
    )


def pair_note(folds: int | None) -> str:
    """Say which test the p-values come from."""
    within = "" if folds is None else " within each fold, combined over the folds"
    return f"Mean AUC of the first minus that of the second, paired test of DeLong{within}, p-values adjusted by Holm."


def _tiles(content: Content) -> list[tuple[str, str, str]]:
    """Make name, value and note of the numbers on top."""
    best = max((row for row in content.rows if row["auc"]), key=lambda row: row["auc"]["value"], default=None)
    seeds, folds = {run.seed for run in content.runs}, content.facts["folds"]
    done = sum(run.is_done for run in content.runs)
    what = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}" + (f", {folds} folds" if folds else "")
    tiles = [("Runs done", f"{done} of {len(content.runs)}", what)]
    if best:
        tiles.insert(0, ("Largest mean AUC", AUC_CELLS["AUC"](best), f"{best['method']}; {AUC_CELLS['95 % CI'](best)}"))
    return tiles


def _failure_note(content: Content) -> str:
    """Say how many runs failed, and why the first did; empty if none did."""
    if not content.failures:
        return ""
    first, count = content.failures[0], f"{len(content.failures)} of {len(content.runs)} runs failed"
    return f"{count}; {first.job.name}: {first.reason}"


def _aucs(content: Content) -> list[dict[str, Any]]:
    """Make the rows of the table of AUCs, with the colour of each method."""
    order = [*content.facts["methods"]]
    rows = []
    for row in content.rows:
        area, sd = row["auc"], row["sd"]
        rows.append(
            {
                "name": row["method"],
                "colour": style_of(order.index(row["method"]))[0],
                "auc": AUC_CELLS["AUC"](row) or "undefined",
                "interval": AUC_CELLS["95 % CI"](row),
                "place": area and (area["value"], area["low"], area["high"]),
                "note": f"{row['runs']} run{'s' * (row['runs'] != 1)}" + ("" if sd is None else f", SD {sd:.3f}"),
            }
        )
    return rows


def _runs(content: Content) -> list[dict[str, str]]:
    """Make the rows of the table of runs."""
    order = [*content.facts["methods"]]
    outcomes = {outcome.name: outcome for outcome in content.outcomes}
    reasons = {failure.job.name: failure.reason for failure in content.failures}
    rows = []
    for run in sorted(content.runs, key=lambda run: order.index(run.method.name)):
        outcome = outcomes.get(run.name)
        area = outcome.scores.auc if outcome and outcome.scores else None
        rows.append(
            {
                "name": run.name,
                "auc": f"{area.value:.4f}" if area else "",
                "interval": f"{area.low:.4f} to {area.high:.4f}" if area else "",
                "time": shown_time(run.seconds) if run.seconds else "",
                "log": f"{run.name}/{run.log.name}" if run.log.exists() else "",
                "state": reasons.get(run.name, "done" if outcome else "not done"),
            }
        )
    return rows


def _facts(content: Content) -> list[tuple[str, str]]:
    """List names and values of the section on the study."""
    facts = content.facts
    return [
        ("Data set", printable(f"{facts['dataset_name']}, {facts['data_path']}")),
        *((f"Images of {split}", images) for split, images in facts["images"].items()),
        *((name, f"salad train ... {words}") for name, words in facts["methods"].items()),
        ("Version", f"salad {salad.__version__}"),
    ]
