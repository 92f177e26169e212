"""Several runs of test.py beside each other: spread over seeds, and whether their AUCs differ."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salad.errors import InputError, printable
from salad.evaluation.metrics import BASELINES, Auc, auc, compare_aucs, mean_auc
from salad.runs.folder import RESULT_FILE, SCORES_FILE


@dataclass(frozen=True, kw_only=True)
class Run:
    """What test.py wrote into one folder.

    Attributes:
        name: the folder as it was given.
        method: runs of one method are averaged.
        labels: by image, 0 normal, 1 abnormal.
        scores: by image, in the same order.
        baselines: AUC of the image mean and standard deviation, where known.
    """

    name: str
    method: str
    labels: dict[str, int]
    scores: dict[str, float]
    baselines: dict[str, float]

    @property
    def auc(self) -> Auc:
        """AUC of the scores."""
        found = auc(list(self.labels.values()), list(self.scores.values()))
        assert found is not None, "read_run has seen both classes"
        return found


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two methods, or two runs where there is one method.

    Attributes:
        first: name of one.
        second: name of the other.
        difference: AUC of the first minus that of the second.
        p: two-sided, paired (DeLong et al., 1988); None where a class has a single image.
        p_holm: the same, adjusted for the number of pairs (Holm, 1979).
    """

    first: str
    second: str
    difference: float
    p: float | None
    p_holm: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs on the same images.

    Attributes:
        runs: as given.
        pairs: of all methods or, where there is one, of all its runs.
    """

    runs: list[Run]
    pairs: list[Pair]

    @property
    def methods(self) -> dict[str, list[Run]]:
        """The runs of each method."""
        methods: dict[str, list[Run]] = {}
        for run in self.runs:
            methods.setdefault(run.method, []).append(run)
        return methods


def compare_runs(places: Sequence[str]) -> Comparison:
    """Read and compare runs.

    Args:
        places: a folder that test.py wrote to, or ``METHOD=FOLDER``; folders without a method are runs of one.

    Raises:
        InputError: a folder holds no scores, or not of the same images with the same labels.
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
    found = Comparison(runs=runs, pairs=[])
    groups = found.methods if len(found.methods) > 1 else {run.name: [run] for run in runs}
    if len(groups) == 1 < len(runs):
        raise InputError(f"{first.name} is named more than once: name each run once")
    return Comparison(runs=runs, pairs=_compare_pairs(groups))


def read_run(place: str) -> Run:
    """Read scores.csv and, where it is there, metrics.json of a run.

    Raises:
        InputError: there are no such scores, or of one class only.
    """
    method, _, name = place.rpartition("=") if not Path(place).exists() else ("", "", place)
    folder = Path(name)
    path = folder / SCORES_FILE
    where = printable(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(row["path"], int(row["label"]), float(row["score"])) for row in csv.DictReader(file)]
        text = (folder / RESULT_FILE).read_text(encoding="utf-8") if (folder / RESULT_FILE).exists() else "{}"
        known = json.loads(text).get("baseline_auc", {})
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}); run test.py with this XP_PATH first") from None
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error):
        raise InputError(f"{where}: was not written by test.py") from None
    labels, scores = {row[0]: row[1] for row in sorted(rows)}, {row[0]: row[2] for row in sorted(rows)}
    if {*labels.values()} != {0, 1} or not all(map(math.isfinite, scores.values())):
        raise InputError(f"{where}: needs finite scores of normal and of abnormal images")
    baselines = {one: known[one]["value"] for one in BASELINES if known.get(one)}
    return Run(name=printable(name), method=printable(method), labels=labels, scores=scores, baselines=baselines)


def group_auc(runs: Sequence[Run]) -> Auc:
    """Mean AUC of runs on the same images, with its interval."""
    found = mean_auc(list(runs[0].labels.values()), [list(run.scores.values()) for run in runs])
    assert found is not None, "read_run has seen both classes"
    return found


def _compare_pairs(groups: dict[str, list[Run]]) -> list[Pair]:
    labels = list(next(iter(groups.values()))[0].labels.values())
    means = {name: float(np.mean([run.auc.value for run in runs])) for name, runs in groups.items()}
    scores = {name: [list(run.scores.values()) for run in runs] for name, runs in groups.items()}
    names = list(itertools.combinations(groups, 2))
    values = [compare_aucs(labels, scores[one], scores[two]) for one, two in names]
    adjusted = holm([value for value in values if value is not None])
    return [
        Pair(
            first=one,
            second=two,
            difference=means[one] - means[two],
            p=value,
            p_holm=None if value is None else adjusted.pop(0),
        )
        for (one, two), value in zip(names, values, strict=True)
    ]


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm, Scandinavian Journal of Statistics 1979), in the order given."""
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
        adjusted[place] = largest
    return adjusted


RUN_HEADER = ["run", "method", "AUC", "low", "high", *(f"AUC of {name.replace('_', ' ')}" for name in BASELINES)]
METHOD_HEADER = ["method", "runs", "mean AUC", "SD", "low", "high"]
PAIR_HEADER = ["first", "second", "difference", "p", "p (Holm)"]


def tables(found: Comparison) -> list[tuple[list[str], list[list[str]]]]:
    """Headers and rows of the tables: runs, methods, and pairs where there are any."""
    runs = [
        [run.name, run.method, *(f"{value:.4f}" for value in (run.auc.value, run.auc.low, run.auc.high))]
        + [f"{run.baselines[name]:.4f}" if name in run.baselines else "" for name in BASELINES]
        for run in found.runs
    ]
    methods = []
    for method, group in found.methods.items():
        values, mean = [run.auc.value for run in group], group_auc(group)
        spread = f"{np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
        ends = [f"{mean.value:.4f}", spread, f"{mean.low:.4f}", f"{mean.high:.4f}"]
        methods.append([method or "all", str(len(group)), *ends])
    pairs = [
        [one.first, one.second, f"{one.difference:+.4f}", _shown(one.p), _shown(one.p_holm)] for one in found.pairs
    ]
    made = [(RUN_HEADER, runs), (METHOD_HEADER, methods), (PAIR_HEADER, pairs)]
    return [(header, rows) for header, rows in made if rows]


def _shown(p: float | None) -> str:
    return "" if p is None else f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"


def as_text(found: Comparison) -> str:
    """The tables in columns."""
    parts = []
    for header, rows in tables(found):
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)
        ]
        parts.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(parts)


def as_csv(found: Comparison) -> str:
    """The tables as CSV, one after the other, with an empty line between."""
    parts = []
    for header, rows in tables(found):
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
        parts.append(file.getvalue())
    return "\n".join(parts).rstrip("\n")


def as_latex(found: Comparison) -> str:
    """The tables as LaTeX, for the package booktabs."""
    parts = []
    for header, rows in tables(found):
        lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (header, *rows)]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        parts.append("\n".join([rf"\begin{{tabular}}{{{'l' * len(header)}}}", *body, r"\end{tabular}"]))
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in text)


FORMATS = {"text": as_text, "csv": as_csv, "latex": as_latex}
