"""Compare runs of test.py: mean AUC and spread over the runs of a method, and tests of the AUC of two methods."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salad.errors import InputError, printable
from salad.evaluation.metrics import BASELINES, Auc, auc, compare_aucs_of_folds, mean_auc_of_folds
from salad.input_files import parse_json, read_input
from salad.runs.csv_file import read_csv
from salad.runs.folder import RESULT_FILE, SCORES_FILE

LABELS = {"0": 0, "1": 1}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Scores that test.py wrote into one folder.

    Attributes:
        name: the folder as the user wrote it.
        method: name of the method; runs of the same method are averaged.
        labels: label by image, 0 normal, 1 abnormal.
        scores: score by image, in the same order.
        baselines: AUC by name of the baseline, at most one for each of `BASELINES`; a baseline without an AUC is left
            out.
        warnings: reasons to doubt the scores, as test.py wrote them.
        seed: of the training; empty where it is not known.
        fold: name of its fold, whose images no run of another fold has scored; empty without folds.
    """

    name: str
    method: str
    labels: dict[str, int]
    scores: dict[str, float]
    baselines: dict[str, float]
    warnings: tuple[str, ...] = ()
    seed: str = ""
    fold: str = ""

    @property
    def auc(self) -> Auc:
        """AUC of the scores."""
        area = auc(list(self.labels.values()), list(self.scores.values()))
        assert area is not None, "read_run has seen both classes"
        return area


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Difference in AUC of two methods, or of two runs if there is only one method.

    Attributes:
        first: name of the first method or run.
        second: name of the second.
        difference: AUC of the first minus AUC of the second.
        p: two-sided p-value of the paired test (DeLong et al., 1988); None where a class has a single image.
        p_holm: p-value adjusted for the number of pairs (Holm, 1979).
    """

    first: str
    second: str
    difference: float
    p: float | None
    p_holm: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs on the same test images, and the differences between them.

    Attributes:
        runs: in the order given.
        pairs: every pair of methods; every pair of runs if there is only one method.
    """

    runs: list[Run]
    pairs: list[Pair]

    @property
    def methods(self) -> dict[str, list[Run]]:
        """Runs by name of their method."""
        methods: dict[str, list[Run]] = {}
        for run in self.runs:
            methods.setdefault(run.method, []).append(run)
        return methods


def compare_runs(places: Sequence[str]) -> Comparison:
    """Read and compare runs.

    Args:
        places: folders that test.py wrote to, each as ``FOLDER`` or ``METHOD=FOLDER``; all folders without a method
            count as runs of the same method.

    Raises:
        InputError: a folder holds no scores, or the runs differ in their images or labels.
    """
    runs = [read_run(place) for place in places]
    check_same_images(runs)
    methods = Comparison(runs=runs, pairs=[]).methods
    groups = methods if len(methods) > 1 else {run.name: [run] for run in runs}
    if len(groups) == 1 < len(runs):
        raise InputError(f"{runs[0].name} is named more than once: name each run once")
    return Comparison(runs=runs, pairs=compare_pairs(groups))


def check_same_images(runs: Sequence[Run]) -> None:
    """Raise `InputError` if two runs of the same fold differ in their images or labels."""
    for of_fold in by_fold(runs).values():
        first = of_fold[0]
        for run in of_fold[1:]:
            if run.labels != first.labels:
                odd = next(iter(sorted(dict(run.labels.items() ^ first.labels.items()))))
                raise InputError(
                    f"{run.name} and {first.name} are not of the same images with the same labels ({odd}, for one): "
                    "score the same test set with both"
                )


def by_fold(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by their fold."""
    folds: dict[str, list[Run]] = {}
    for run in runs:
        folds.setdefault(run.fold, []).append(run)
    return folds


def read_run(place: str) -> Run:
    """Read scores.csv of a run, and the baselines from its metrics.json if there is one.

    Args:
        place: ``FOLDER`` or ``METHOD=FOLDER``.

    Raises:
        InputError: the folder holds no scores, or scores of one class only.
    """
    is_folder = os.path.exists(place)  # noqa: PTH110  # False for an impossible name, for which Path.exists raises
    method, _, name = ("", "", place) if is_folder else place.rpartition("=")
    if not name.strip():
        raise InputError("an empty RUN is given: is a variable not set? A dot stands for the current folder")
    labels, scores = _read_scores(Path(name, SCORES_FILE))
    facts = _read_facts(Path(name, RESULT_FILE))
    baselines = {baseline: area for baseline in BASELINES if (area := _baseline_of(facts, baseline)) is not None}
    warnings = tuple(printable(line) for line in facts.get("warnings", ()))
    return Run(
        name=printable(name),
        method=printable(method),
        labels=labels,
        scores=scores,
        baselines=baselines,
        warnings=warnings,
    )


def _read_scores(path: Path) -> tuple[dict[str, int], dict[str, float]]:
    """Read label and score of each image from a scores.csv, in the order of the names."""
    where = printable(path)
    try:
        rows = sorted((row["path"], LABELS[row["label"]], float(row["score"])) for row in read_csv(path))
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}); run test.py with this XP_PATH first") from None
    except (ValueError, KeyError) as error:
        reason = f"no column or label is {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{where}: was not written by test.py ({printable(reason)[:80]})") from None
    labels, scores = {row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows}
    if len(labels) < len(rows):
        raise InputError(f"{where}: names {len(rows) - len(labels)} images twice, which test.py does not")
    if {*labels.values()} != {0, 1} or not all(map(math.isfinite, scores.values())):
        raise InputError(f"{where}: needs finite scores of normal and of abnormal images")
    return labels, scores


def _read_facts(path: Path) -> dict[str, Any]:
    """Read a metrics.json; empty if there is none.

    Raises:
        InputError: the file is not one of test.py.
    """
    try:
        facts = parse_json(read_input(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{printable(path)}: was not written by test.py ({printable(error)[:80]})") from None
    if not isinstance(facts, dict) or not _is_list_of_texts(facts.get("warnings", [])):
        raise InputError(f"{printable(path)}: was not written by test.py")
    return facts


def _baseline_of(facts: dict[str, Any], name: str) -> float | None:
    """Take the AUC of a baseline from a metrics.json; None if there is none, or no AUC in its place."""
    areas = facts.get("baseline_auc")
    area = areas.get(name) if isinstance(areas, dict) else None
    value = area.get("value") if isinstance(area, dict) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value <= 1 else None


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def group_auc(runs: Sequence[Run]) -> Auc:
    """Mean AUC of the runs of a method with its 95 % interval; of several folds, see `mean_auc_of_folds`."""
    mean = mean_auc_of_folds([(_labels(of_fold), _scores(of_fold)) for of_fold in by_fold(runs).values()])
    assert mean is not None, "read_run has seen both classes"
    return mean


def group_sd(runs: Sequence[Run]) -> float | None:
    """Standard deviation of the AUC over seeds, each the mean of its folds; over folds if there is a single seed.

    Runs without a seed count as seeds of their own. None for a single run.
    """
    units: dict[str, list[float]] = {}
    one_seed = len({run.seed for run in runs}) == 1
    for number, run in enumerate(runs):
        unit = run.fold if one_seed else run.seed
        units.setdefault(unit or str(number), []).append(run.auc.value)
    return float(np.std([np.mean(values) for values in units.values()], ddof=1)) if len(units) > 1 else None


def compare_pairs(groups: dict[str, list[Run]]) -> list[Pair]:
    """Compare every pair of groups of runs by their mean AUC, over the folds that both have."""
    compared, values = [], []
    for first, second in itertools.combinations(groups, 2):
        folds = [by_fold(groups[name]) for name in (first, second)]
        common = [(folds[0][fold], folds[1][fold]) for fold in folds[0] if fold in folds[1]]
        if common:
            areas = [group_auc([run for pair in common for run in pair[side]]).value for side in (0, 1)]
            compared.append((first, second, areas[0] - areas[1]))
            values.append(compare_aucs_of_folds([(_labels(a), _scores(a), _scores(b)) for a, b in common]))
    adjusted = holm([value for value in values if value is not None])
    return [
        Pair(first=first, second=second, difference=gap, p=p, p_holm=None if p is None else adjusted.pop(0))
        for (first, second, gap), p in zip(compared, values, strict=True)
    ]


def _labels(runs: Sequence[Run]) -> list[int]:
    return [*runs[0].labels.values()]


def _scores(runs: Sequence[Run]) -> list[list[float]]:
    return [[*run.scores.values()] for run in runs]


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm, Scandinavian Journal of Statistics 1979); keeps their order."""
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, values[index] * (len(values) - rank)))
        adjusted[index] = largest
    return adjusted
