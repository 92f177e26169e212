"""Compare runs of test.py: mean AUC and spread over the runs of a method, and tests of the AUC of two methods."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salad.errors import InputError, printable
from salad.evaluation.metrics import BASELINES, Auc, auc, compare_aucs, mean_auc
from salad.input_files import parse_json, read_input
from salad.runs.csv_file import csv_lines, read_csv
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
    """

    name: str
    method: str
    labels: dict[str, int]
    scores: dict[str, float]
    baselines: dict[str, float]
    warnings: tuple[str, ...] = ()

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
    first = runs[0]
    for run in runs[1:]:
        if run.labels != first.labels:
            odd = next(iter(sorted(dict(run.labels.items() ^ first.labels.items()))))
            raise InputError(
                f"{run.name} and {first.name} are not of the same images with the same labels ({odd}, for one): "
                "score the same test set with both"
            )
    methods = Comparison(runs=runs, pairs=[]).methods
    groups = methods if len(methods) > 1 else {run.name: [run] for run in runs}
    if len(groups) == 1 < len(runs):
        raise InputError(f"{first.name} is named more than once: name each run once")
    return Comparison(runs=runs, pairs=_compare_pairs(groups))


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
    """Mean AUC of runs on the same images, with its 95 % interval."""
    mean = mean_auc(list(runs[0].labels.values()), [list(run.scores.values()) for run in runs])
    assert mean is not None, "read_run has seen both classes"
    return mean


def _compare_pairs(groups: dict[str, list[Run]]) -> list[Pair]:
    labels = list(next(iter(groups.values()))[0].labels.values())
    means = {name: float(np.mean([run.auc.value for run in runs])) for name, runs in groups.items()}
    scores = {name: [list(run.scores.values()) for run in runs] for name, runs in groups.items()}
    names = list(itertools.combinations(groups, 2))
    values = [compare_aucs(labels, scores[first], scores[second]) for first, second in names]
    adjusted = holm([value for value in values if value is not None])
    return [
        Pair(
            first=first,
            second=second,
            difference=means[first] - means[second],
            p=value,
            p_holm=None if value is None else adjusted.pop(0),
        )
        for (first, second), value in zip(names, values, strict=True)
    ]


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm, Scandinavian Journal of Statistics 1979); keeps their order."""
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, values[index] * (len(values) - rank)))
        adjusted[index] = largest
    return adjusted


RUN_HEADER = ["run", "method", "AUC", "low", "high", *(f"AUC of {name.replace('_', ' ')}" for name in BASELINES)]
METHOD_HEADER = ["method", "runs", "mean AUC", "SD", "low", "high"]
PAIR_HEADER = ["first", "second", "difference", "p", "p (Holm)"]


def tables(comparison: Comparison) -> list[tuple[list[str], list[list[str]]]]:
    """Make the tables of runs, of methods and of pairs, each as a header and rows; empty tables are left out."""
    runs = [
        [run.name, run.method, *(f"{value:.4f}" for value in (run.auc.value, run.auc.low, run.auc.high))]
        + [f"{run.baselines[name]:.4f}" if name in run.baselines else "" for name in BASELINES]
        for run in comparison.runs
    ]
    methods = []
    for method, group in comparison.methods.items():
        values, mean = [run.auc.value for run in group], group_auc(group)
        spread = f"{np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        ends = [f"{mean.value:.4f}", spread, f"{mean.low:.4f}", f"{mean.high:.4f}"]
        methods.append([method or "all", str(len(group)), *ends])
    pairs = [
        [pair.first, pair.second, f"{pair.difference:+.4f}", _format_p(pair.p), _format_p(pair.p_holm)]
        for pair in comparison.pairs
    ]
    every = [(RUN_HEADER, runs), (METHOD_HEADER, methods), (PAIR_HEADER, pairs)]
    return [(header, rows) for header, rows in every if rows]


def _format_p(p: float | None) -> str:
    return "" if p is None else f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"


def as_text(comparison: Comparison) -> str:
    """Format the tables as text in aligned columns."""
    blocks = []
    for header, rows in tables(comparison):
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)
        ]
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks)


def as_csv(comparison: Comparison) -> str:
    """Format the tables as CSV, with an empty line between two tables."""
    return "\n".join(csv_lines([header, *rows]) for header, rows in tables(comparison)).rstrip("\n")


def as_latex(comparison: Comparison) -> str:
    """Format the tables as LaTeX; they need the package booktabs."""
    blocks = []
    for header, rows in tables(comparison):
        lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (header, *rows)]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        blocks.append("\n".join([rf"\begin{{tabular}}{{{'l' * len(header)}}}", *body, r"\end{tabular}"]))
    return "\n\n".join(blocks)


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(char, f"\\{char}" if char in "&%$#_{}" else char) for char in text)


FORMATS = {"text": as_text, "csv": as_csv, "latex": as_latex}
