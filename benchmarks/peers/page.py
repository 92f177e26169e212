"""Page and CSV file of `benchmarks.peers`: what the cells of a method measure, and its row of a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import machine, version_of
from benchmarks.peers.cell import CELL_FILE
from benchmarks.peers.films import JITTERED, TEST, VAL, Films
from benchmarks.peers.fitted import COST_FILE, features_folder
from benchmarks.peers.methods import METHODS
from benchmarks.quality_table import table
from salad.evaluation.calibration import Calibration
from salad.evaluation.metrics import compare_aucs, mean_auc
from salad.evaluation.rates import Confusion, specificity_at
from salad.study.results import Row
from salad.study.tables import Cells

SPECIFICITY = 0.95  # of the threshold that is set in the same way for all
SENSITIVITY = 0.8  # at which specificities are compared: thresholds differ in both rates
VIEWS = ("PA", "AP")
PACKAGES = ("anomalib", "imgad", "pyod", "timm", "lightning")


@dataclass(frozen=True)
class Cell:
    """Method on a data set with a seed.

    Attributes:
        data: name of the data set.
        films: its images.
        method: one of `METHODS`.
        seed: of the method.
        xp: folder of its files.
    """

    data: str
    films: Films
    method: str
    seed: int
    xp: Path

    @property
    def file(self) -> Path:
        """File with its scores and costs."""
        return self.xp / CELL_FILE

    @property
    def log(self) -> Path:
        """Output of its process."""
        return self.xp / "output.txt"

    @property
    def needs_features(self) -> bool:
        """True if it takes features that it shares with others, and that are not there yet."""
        return METHODS[self.method].module == "features" and not (features_folder(self.xp) / COST_FILE).exists()

    def read(self) -> dict[str, Any]:
        """Read its file; empty without one."""
        return dict(json.loads(self.file.read_text(encoding="utf-8"))) if self.file.exists() else {}

    @property
    def is_done(self) -> bool:
        """True if it was measured; a failure is tried again."""
        return "scores" in self.read()


def measure_cells(cells: Iterable[Cell]) -> list[Row]:
    """Collect the rows of all tables: a row for each data set and method, over its seeds."""
    rows: dict[tuple[str, str], Row] = {}
    kept: dict[str, list[dict[str, Any]]] = {}  # contents of the first method by data set
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.method), []).append(cell)
    for (data, method), group in groups.items():
        contents = [content for cell in group if (content := cell.read())]
        done = [content for content in contents if "scores" in content]
        rows[data, method] = row = {"data": data, "method": method, "seeds": len(done)}
        if done:
            row |= _measure(done, kept.setdefault(data, done), group[0].films)
        else:
            row["failed"] = contents[0]["failed"] if contents else "not run"
    return [*rows.values()]


def _measure(done: list[dict[str, Any]], first: list[dict[str, Any]], films: Films) -> Row:
    """Measure a method on a data set by the contents of its cells, and compare it with those of the first method."""
    samples = films.test
    labels = [sample.label for sample in samples]
    scores = np.array([content["scores"][TEST] for content in done])
    compared = np.array([content["scores"][TEST] for content in first])
    area, reference = mean_auc(labels, scores), mean_auc(labels, compared)
    assert area is not None and reference is not None, "test has both classes"
    jittered = np.array([content["scores"][JITTERED] for content in done])
    views = {view: [index for index, sample in enumerate(samples) if sample.view == view] for view in VIEWS}
    by_view = {
        f"auc_{view}": area_of.value
        for view, index in views.items()
        if (area_of := mean_auc([labels[i] for i in index], scores[:, index]))
    }
    return {
        **{"auc": area.value, "auc_low": area.low, "auc_high": area.high},
        **{"auc_difference": reference.value - area.value, "p": compare_aucs(labels, compared, scores)},
        "auc_jittered": getattr(mean_auc(labels, jittered), "value", None),
        **by_view,
        **_rates(done, labels),
        "specificity_at_80_sensitivity": _specificity(done, labels, TEST),
        "specificity_at_80_sensitivity_jittered": _specificity(done, labels, JITTERED),
        "pointing_game": _mean(content["pointing"] and content["pointing"][0] for content in done),
        "pointing_game_by_chance": _mean(content["pointing"] and content["pointing"][1] for content in done),
        **{name: _mean(content[name] for content in done) for name in COSTS},
    }


COSTS = ("train_cpu_seconds", "peak_bytes", "images_per_second", "model_bytes", "lines")


def _rates(done: list[dict[str, Any]], labels: list[int]) -> Row:
    """Measure specificity and sensitivity at the method's own threshold, and at that of the validation normals."""
    rates: dict[str, list[float | None]] = {}
    for content in done:
        scores = content["scores"]
        thresholds = {"own": content["threshold"], "at_95": None}
        if VAL in scores:
            thresholds["at_95"] = Calibration.of(scores[VAL]).threshold(SPECIFICITY)
        for name, threshold in thresholds.items():
            for folder, suffix in ((TEST, ""), (JITTERED, "_jittered")):
                at = Confusion.at(threshold, labels, scores[folder]) if threshold is not None else None
                for rate in ("specificity", "sensitivity"):
                    share = getattr(at, rate) if at else None
                    rates.setdefault(f"{rate}_{name}{suffix}", []).append(share and share.value)
    return {name: _mean(values) for name, values in rates.items()}


def _specificity(done: list[dict[str, Any]], labels: list[int], folder: str) -> float | None:
    """Measure the specificity of a method at `SENSITIVITY`."""
    rates = [specificity_at(SENSITIVITY, labels, content["scores"][folder]) for content in done]
    return _mean(rate.value if rate else None for rate in rates)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _text(row: Row, name: str, form: str, scale: float = 1) -> str:
    return "" if row.get(name) is None else f"{row[name] / scale:{form}}"


def _pair(row: Row, first: str, second: str, form: str) -> str:
    return ", ".join(filter(None, (_text(row, first, form), _text(row, second, form))))


def _auc(row: Row) -> str:
    if "failed" in row:
        return f"not measured: {row['failed']}"
    return f"{row['auc']:.3f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})"


def _difference(row: Row) -> str:
    if row.get("p") is None or row["p"] == 1:
        return ""
    return f"{row['auc_difference']:+.3f}, p {row['p']:.3f}".replace("p 0.000", "p < 0.001")


CELLS: Cells = {
    "method": lambda row: str(row["method"]),
    "seeds": lambda row: str(row["seeds"]),
    "AUC (95 % CI)": _auc,
    "first minus this": _difference,
    "jittered AUC": lambda row: _text(row, "auc_jittered", ".3f"),
    "spec., sens. at own threshold": lambda row: _pair(row, "specificity_own", "sensitivity_own", ".0%"),
    "at that of 95 % of val": lambda row: _pair(row, "specificity_at_95", "sensitivity_at_95", ".0%"),
    "the same, jittered": lambda row: _pair(row, "specificity_at_95_jittered", "sensitivity_at_95_jittered", ".0%"),
    "spec. at 80% sens., jittered": lambda row: _pair(
        row, "specificity_at_80_sensitivity", "specificity_at_80_sensitivity_jittered", ".0%"
    ),
    "AUC PA, AP": lambda row: _pair(row, "auc_PA", "auc_AP", ".3f"),
    "pointing (chance)": lambda row: _pair(row, "pointing_game", "pointing_game_by_chance", ".2f"),
    "training, CPU s": lambda row: _text(row, "train_cpu_seconds", ".0f"),
    "peak, GB": lambda row: _text(row, "peak_bytes", ".1f", 1e9),
    "images/s": lambda row: _text(row, "images_per_second", ".0f"),
    "model, MB": lambda row: _text(row, "model_bytes", ".1f", 1e6),
    "lines": lambda row: _text(row, "lines", ".0f"),
}
"""Text of a cell by column; it is empty where a row has no such number."""


LEGEND = """\
AUC on the test images, mean over the seeds, with DeLong's interval; the first method's AUC minus this one, paired;
AUC on jittered copies. Specificity and sensitivity at the threshold that the method sets itself, and at the one that
95 % of the validation normals stay at or below; specificity at a sensitivity of 80 %, also on jittered copies.
Training: CPU seconds, and peak memory of the process. Images that are scored in a CPU second. Model: the file that
its user would save. Lines: those of the code that ran here."""


def compose(rows: Sequence[Row], odd: str, methods: Iterable[str]) -> str:
    """Compose the page in Markdown: a table for each data set, odd files, what was reduced, what is missing.

    Args:
        rows: of `measure_cells`.
        odd: table of the odd files; empty without one.
        methods: names of the methods that were to run.
    """
    host = machine()
    versions = {**host["versions"], **{name: number for name in PACKAGES if (number := version_of(name))}}
    shown = ", ".join(f"{name} {number}" for name, number in {"Python": host["python"], **versions}.items())
    lines = [f"{date.today()}, {host['cpu']}, one thread; {shown}"]
    lines += ["", LEGEND]
    for data in dict.fromkeys(row["data"] for row in rows):
        lines += ["", f"## {data}", "", table([row for row in rows if row["data"] == data], CELLS)]
    lines += ["", "## Odd files", "", odd] if odd else []
    notes = [f"- {name}: {METHODS[name].note}" for name in methods if METHODS[name].note]
    lines += ["", "## Chosen or reduced", "", *notes] if notes else []
    missing = [name for name in METHODS if name not in methods and METHODS[name].needs]
    commands = [f"- {name} needs {METHODS[name].needs}: `--method '{name}'`" for name in missing]
    lines += ["", "## Not compared here", "", *commands] if commands else []
    return "\n".join(lines) + "\n"


def csv_rows(rows: Sequence[Row]) -> Iterator[list[object]]:
    """List the rows of the CSV file, the header first."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    yield [*names]
    for row in rows:
        yield ["" if row.get(name) is None else row[name] for name in names]
