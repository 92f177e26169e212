"""Collect what the finished runs of a study have measured: numbers of a method, comparisons, and tidy rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salad.evaluation.comparison import Pair, check_same_images, compare_pairs, group_auc, group_sd, read_run
from salad.evaluation.comparison import Run as Scores
from salad.evaluation.metrics import BASELINES
from salad.evaluation.tables import method_rows, pair_rows
from salad.evaluation.tidy import ALL, KINDS, metric_rows
from salad.input_files import parse_json, read_input
from salad.runs.folder import MODEL_FILE, RESULT_FILE
from salad.study.plan import Run, read_times

MAPS = ("score_map", "memory_map", "error_map")  # of metrics.json, the most telling first

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Results of a finished run.

    Attributes:
        name: of the run.
        method: name of its method.
        seed: of the training.
        fold: number of its fold, from 1; None without folds.
        result: content of metrics.json.
        scores: of the images; None where they are of one class, so that there is no AUC.
        times: seconds of training and scoring, ``train`` and ``test``; empty if they are not known.
        model_bytes: size of model.tar; None without one.
    """

    name: str
    method: str
    seed: int
    fold: int | None
    result: Row
    scores: Scores | None
    times: dict[str, float]
    model_bytes: int | None


def read_outcome(folder: Path, *, name: str, method: str, seed: int, fold: int | None = None) -> Outcome:
    """Read the results in a folder, see `Outcome`.

    Raises:
        InputError: the folder holds no results of `salad test`.
    """
    result = parse_json(read_input(folder / RESULT_FILE))
    scores = None
    if result["auc"]:
        of_fold = "" if fold is None else str(fold)
        scores = dataclasses.replace(read_run(str(folder)), name=name, method=method, seed=str(seed), fold=of_fold)
    model = folder / MODEL_FILE
    return Outcome(
        name=name,
        method=method,
        seed=seed,
        fold=fold,
        result=result,
        scores=scores,
        times=read_times(folder),
        model_bytes=model.stat().st_size if model.exists() else None,
    )


def read_outcomes(runs: Iterable[Run]) -> list[Outcome]:
    """Read the results of the runs of a study that are done.

    Raises:
        InputError: two runs of a fold differ in their test images.
    """
    outcomes = [
        read_outcome(run.folder, name=run.name, method=run.method.name, seed=run.seed, fold=run.data.fold)
        for run in runs
        if run.is_done
    ]
    check_same_images([outcome.scores for outcome in outcomes if outcome.scores])
    return outcomes


def measure(outcomes: Sequence[Outcome]) -> Row:
    """Collect the numbers of the runs of one method: of each run, and the mean AUC with its interval and spread."""
    scores = [outcome.scores for outcome in outcomes if outcome.scores]
    results = [outcome.result for outcome in outcomes]
    sizes = [outcome.model_bytes for outcome in outcomes if outcome.model_bytes is not None]
    return {
        "aucs": [run.auc.value for run in scores],
        "auc": group_auc(scores).as_json() if scores else None,
        "sd": group_sd(scores) if scores else None,
        "within_sharpness": values_of(results, "auc_within_sharpness", "value"),
        "specificity": values_of(results, "at_threshold", "specificity", "value"),
        "sensitivity": values_of(results, "at_threshold", "sensitivity", "value"),
        **{f"by_{kind}": _by_name(results, f"auc_by_{kind}") for kind in KINDS},
        "localisation": _localisation(results),
        "baselines": {name: values_of(results, "baseline_auc", name, "value") for name in BASELINES},
        "train_seconds": [outcome.times["train"] for outcome in outcomes if outcome.times],
        "test_seconds": [outcome.times["test"] for outcome in outcomes if outcome.times],
        "model_bytes": sizes[0] if sizes else None,
    }


def values_of(results: Sequence[Any], *keys: str) -> list[float]:
    """Collect the number under these keys of each result that has one."""
    for key in keys:
        results = [inner for result in results if (inner := result.get(key)) is not None]
    return [*results]


def _by_name(results: Sequence[Row], key: str) -> dict[str, list[float]]:
    """Collect the AUCs of subgroups, by their name, of each result that has one."""
    names = dict.fromkeys(name for result in results for name in result.get(key, {}))
    return {name: values_of(results, key, name, "value") for name in names}


def _localisation(results: Sequence[Row]) -> dict[str, list[float]]:
    """Collect the numbers of the first map of `MAPS` that the results have; empty without marked images."""
    located = [of for result in results if (of := result.get("localisation"))]
    name = next((name for name in MAPS if located and name in located[0]), None)
    if name is None:
        return {}
    return {
        "pointing_game": values_of(located, name, "pointing_game", "value"),
        "by_chance": values_of(located, "pointing_game_by_chance"),
        "pixel_auc": values_of(located, name, "pixel_auc", "value"),
    }


def scores_by_method(outcomes: Iterable[Outcome]) -> dict[str, list[Scores]]:
    """Group the scores of runs that have an AUC by method."""
    methods: dict[str, list[Scores]] = {}
    for outcome in outcomes:
        if outcome.scores:
            methods.setdefault(outcome.method, []).append(outcome.scores)
    return methods


def tidy_rows(outcomes: Sequence[Outcome], pairs: Sequence[Pair]) -> list[Row]:
    """List every number of each run, then mean AUC of each method, then differences of each pair, as tidy rows."""
    rows: list[Row] = []
    for outcome in outcomes:
        facts = {"level": "run", "run": outcome.name, "method": outcome.method, "seed": outcome.seed}
        more: dict[str, float | None] = {f"{name}_seconds": seconds for name, seconds in outcome.times.items()}
        more["model_bytes"] = outcome.model_bytes
        rows += [{**facts, "fold": outcome.fold, **row} for row in metric_rows(outcome.result)]
        rows += [
            {**facts, "fold": outcome.fold, "subset": ALL, "metric": metric, "value": value}
            for metric, value in more.items()
            if value is not None
        ]
    return [*rows, *method_rows(scores_by_method(outcomes)), *pair_rows(pairs)]


def compare_methods(outcomes: Iterable[Outcome]) -> list[Pair]:
    """Compare every pair of methods, see `compare_pairs`."""
    return compare_pairs(scores_by_method(outcomes))


def mean(values: Sequence[float] | None, form: str = ".3f") -> str:
    """Format the mean of numbers; empty without any."""
    return format(np.mean(values), form) if values else ""
