"""The course of one or several runs: every term of the loss and the validation AUC, as text or as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from salad.datasets.sample import printable
from salad.errors import InputError
from salad.runs.run_folder import METRICS_FILE, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# what a line of metrics.jsonl holds beside the terms of the loss and the validation AUC
OTHERS = {"epoch", "round", "spread", "lr", "seconds", "images_per_second", "num_anchors", "radius", "val_auc_ci95"}
TITLES = {
    "loss": "loss (weighted sum of the terms)",
    "rec": "reconstruction",
    "svdd": "Deep SVDD",
    "val_auc": "validation AUC",
}
BLOCKS = " ▁▂▃▄▅▆▇█"
HEIGHT, MAX_WIDTH, MARGIN = 6, 64, 9  # of a plot in the terminal, in lines and columns
PICTURES = (".png", ".svg", ".pdf")
# Okabe and Ito (2008): told apart by colour-blind people; the line styles serve where there is no colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curves:
    """The course of a run.

    Attributes:
        name: of the run.
        lines: of its metrics.jsonl, at least one.
    """

    name: str
    lines: list[dict[str, Any]]

    @classmethod
    def read(cls, run: Path) -> Curves:
        """The curves of a run, by its XP_PATH or its metrics.jsonl.

        Raises:
            InputError: there are none.
        """
        path = run / METRICS_FILE if run.is_dir() else run
        if not path.exists():
            raise InputError(f"{printable(path)}: no such file; RUN is an XP_PATH of main.py")
        if not (lines := read_metrics(path)):
            raise InputError(f"{printable(path)}: holds no epoch yet")
        return cls(printable(run), lines)

    def points(self, term: str) -> list[tuple[int, float]]:
        """Epochs and values of a term, where it has any."""
        values = ((line["epoch"], line.get(term)) for line in self.lines)
        return [(epoch, value) for epoch, value in values if _is_number(value)]

    @property
    def terms(self) -> list[str]:
        """What there is to draw: the loss, its terms, the validation AUC."""
        return [name for name in dict.fromkeys(name for line in self.lines for name in line) if self._is_drawn(name)]

    def _is_drawn(self, name: str) -> bool:
        return name not in OTHERS and bool(self.points(name))


def read_runs(runs: Sequence[Path]) -> list[Curves]:
    """The curves of several runs.

    Raises:
        InputError: one has none.
    """
    return [Curves.read(run) for run in runs]


def as_text(runs: list[Curves], *, width: int) -> str:
    """Block plots for a terminal: one a term and a run, all of a term on the same scale.

    Args:
        runs: at least one.
        width: of the terminal, in columns.
    """
    parts = []
    for term in _terms(runs):
        points = [(run.name, run.points(term)) for run in runs if run.points(term)]
        values = [value for _, found in points for _, value in found]
        last_epoch = max(epoch for _, found in points for epoch, _ in found)
        parts.append(f"{TITLES.get(term, term)}")
        for name, found in points:
            columns = min(MAX_WIDTH, width - MARGIN - len(" epochs"))
            parts += _plot(found, low=min(values), high=max(values), last_epoch=last_epoch, columns=max(1, columns))
            best = f", best {max(value for _, value in found):.4g}" if term == "val_auc" else ""
            parts.append(f"{'':{MARGIN}}{name}: last {found[-1][1]:.4g}{best}")
        parts.append("")
    return "\n".join(parts).rstrip()


def _plot(points: list[tuple[int, float]], *, low: float, high: float, last_epoch: int, columns: int) -> list[str]:
    """Lines of a plot: bars up to the mean of the epochs that fall into a column, with both ends of the scale."""
    columns = min(columns, max(1, last_epoch) * max(1, columns // max(1, last_epoch)))
    found: list[list[float]] = [[] for _ in range(columns)]
    for epoch, value in points:
        first, end = (epoch - 1) * columns // last_epoch, max(1, epoch * columns // last_epoch)
        for column in range(min(first, columns - 1), max(first + 1, end)):
            found[column].append(value)
    steps = HEIGHT * (len(BLOCKS) - 1)
    heights = [
        None if not values else 1 + round((steps - 1) * (sum(values) / len(values) - low) / ((high - low) or 1))
        for values in found
    ]
    lines = []
    for row in reversed(range(HEIGHT)):
        filled = (0 if height is None else height - row * (len(BLOCKS) - 1) for height in heights)
        bar = "".join(BLOCKS[max(0, min(len(BLOCKS) - 1, one))] for one in filled)
        label = f"{high:.4g}" if row == HEIGHT - 1 else f"{low:.4g}" if row == 0 else ""
        lines.append(f"{label:>{MARGIN - 1}} {bar}".rstrip())
    return [*lines, f"{'':{MARGIN}}1{last_epoch:>{max(1, columns - 1)}} epochs" if columns > 1 else f"{'':{MARGIN}}1"]


def draw(runs: list[Curves], out: Path) -> None:
    """One panel a term with a line for each run, as PNG, SVG or PDF.

    Raises:
        InputError: the file has another suffix, or cannot be written.
    """
    if out.suffix.lower() not in PICTURES:
        raise InputError(f"--out {out}: must end in {' or '.join(PICTURES)}")
    import matplotlib
    from matplotlib.figure import Figure

    terms = _terms(runs)
    num_columns = min(3, len(terms))
    num_rows = math.ceil(len(terms) / num_columns)
    with matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 9}):
        figure = Figure(figsize=(3.6 * num_columns, 2.7 * num_rows + 0.25 * len(runs)), layout="constrained", dpi=150)
        axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
        for term, panel in zip(terms, axes, strict=False):
            _draw_term(panel, runs, term)
        for panel in axes[len(terms) :]:
            panel.set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", frameon=False)
        try:
            figure.savefig(out)
        except OSError as error:
            raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None


def _draw_term(panel: Axes, runs: list[Curves], term: str) -> None:
    for number, run in enumerate(runs):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        epochs, values = zip(*run.points(term), strict=True) if run.points(term) else ((), ())
        label = run.name.replace("$", r"\$")  # no formula
        label = f"./{label}" if label.startswith("_") else label  # no hidden line
        marker = "o" if len(epochs) < 30 else None
        panel.plot(epochs, values, style, color=colour, label=label, marker=marker, markersize=3, linewidth=1.4)
        if term == "val_auc":
            known = [line for line in run.lines if line.get("val_auc_ci95")]
            low, high = ([line["val_auc_ci95"][end] for line in known] for end in (0, 1))
            panel.fill_between([line["epoch"] for line in known], low, high, color=colour, alpha=0.15, linewidth=0)
    if term == "val_auc":
        panel.axhline(0.5, color="0.5", linewidth=0.8)
    starts = _round_starts(runs)
    for start in starts:
        panel.axvline(start - 0.5, color="0.88", linewidth=0.8, zorder=0)
    note = " (95 % CI; line: chance)" if term == "val_auc" else ""
    panel.set_title(TITLES.get(term, term) + note, loc="left", fontsize=9)
    panel.set_xlabel("epoch (lines: new rounds)" if starts else "epoch")
    panel.locator_params(axis="x", integer=True)
    panel.spines[["top", "right"]].set_visible(False)


def _round_starts(runs: list[Curves]) -> list[int]:
    """The epochs with which rounds begin, where all runs agree on them."""
    starts = [
        [line["epoch"] for before, line in zip(run.lines, run.lines[1:], strict=False) if _differ(before, line)]
        for run in runs
    ]
    return starts[0] if all(one == starts[0] for one in starts) else []


def _differ(before: dict[str, Any], line: dict[str, Any]) -> bool:
    return before.get("round") != line.get("round")


def _terms(runs: list[Curves]) -> list[str]:
    """Those of all runs, the validation AUC last."""
    found = dict.fromkeys(term for run in runs for term in run.terms)
    return sorted(found, key=lambda term: term == "val_auc")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)
