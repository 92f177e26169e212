"""Format tables of results: text in columns, LaTeX, and one tidy CSV file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from salad.evaluation.comparison import Comparison, Pair, Run, group_auc, group_sd
from salad.evaluation.metrics import BASELINES, Auc
from salad.evaluation.tidy import ALL, Row, tidy_csv

RUN_HEADER = ["run", "method", "AUC", "low", "high", *(f"AUC of {name.replace('_', ' ')}" for name in BASELINES)]
METHOD_HEADER = ["method", "runs", "mean AUC", "SD", "low", "high"]
PAIR_HEADER = ["first", "second", "difference", "p", "p (Holm)"]
SMALLEST_P = 1e-16  # below it, the normal distribution is no more than a bound
ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}


class Table(NamedTuple):
    """Header and rows of a table, as text."""

    header: list[str]
    rows: list[list[str]]


def tables(comparison: Comparison) -> list[Table]:
    """Make the tables of runs, of methods and of pairs; empty tables are left out."""
    runs = [
        [run.name, run.method, *(f"{value:.4f}" for value in (run.auc.value, run.auc.low, run.auc.high))]
        + [f"{run.baselines[name]:.4f}" if name in run.baselines else "" for name in BASELINES]
        for run in comparison.runs
    ]
    methods = []
    for method, group in comparison.methods.items():
        mean, spread = group_auc(group), group_sd(group)
        ends = [f"{mean.value:.4f}", "" if spread is None else f"{spread:.4f}", f"{mean.low:.4f}", f"{mean.high:.4f}"]
        methods.append([method or "all", str(len(group)), *ends])
    every = [Table(RUN_HEADER, runs), Table(METHOD_HEADER, methods), pair_table(comparison.pairs)]
    return [table for table in every if table.rows]


def pair_table(pairs: Iterable[Pair]) -> Table:
    """Make the table of pairs."""
    rows = [[pair.first, pair.second, f"{pair.difference:+.4f}", *map(_p, (pair.p, pair.p_holm))] for pair in pairs]
    return Table(PAIR_HEADER, rows)


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}" if p >= SMALLEST_P else f"< {SMALLEST_P:.0e}"


def text_table(table: Table) -> str:
    """Format a table as text in aligned columns."""
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (table.header, *table.rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def latex_table(table: Table) -> str:
    """Format a table as LaTeX; it needs the package booktabs."""
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (table.header, *table.rows)]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{'l' * len(table.header)}}}", *body, r"\end{tabular}"])


def _escaped(text: str) -> str:
    return "".join(ESCAPES.get(char, char) for char in text)


def method_rows(methods: dict[str, list[Run]]) -> list[Row]:
    """List number of runs, mean AUC with its interval, and standard deviation of each method as tidy rows."""
    return [
        {"level": "method", "method": method, "subset": ALL, **cells}
        for method, runs in methods.items()
        for cells in (
            {"metric": "num_runs", "value": len(runs)},
            {"metric": "auc", **group_auc(runs).as_json()},
            {"metric": "auc_sd", "value": group_sd(runs)},
        )
    ]


def pair_rows(pairs: Sequence[Pair], *, of: str = "method") -> list[Row]:
    """List difference, p-value and adjusted p-value of each pair of methods, or of runs, as tidy rows."""
    return [
        {"level": "pair", of: pair.first, "other": pair.second, "subset": ALL, "metric": metric, "value": value}
        for pair in pairs
        for metric, value in (("auc_difference", pair.difference), ("p", pair.p), ("p_holm", pair.p_holm))
    ]


def _run_rows(runs: Iterable[Run]) -> list[Row]:
    """List the AUC of each run, and of its baselines, as tidy rows."""
    rows: list[Row] = []
    for run in runs:
        num_abnormal = sum(run.labels.values())
        sizes = {"num_normal": len(run.labels) - num_abnormal, "num_abnormal": num_abnormal}
        facts: dict[str, Any] = {"level": "run", "run": run.name, "method": run.method, "subset": ALL, **sizes}
        areas: dict[str, Auc | float] = {"auc": run.auc}
        areas |= {f"baseline_auc.{name}": value for name, value in run.baselines.items()}
        for metric, area in areas.items():
            rows.append({**facts, "metric": metric, **(area.as_json() if isinstance(area, Auc) else {"value": area})})
    return rows


def as_text(comparison: Comparison) -> str:
    """Format the tables as text in aligned columns."""
    return "\n\n".join(map(text_table, tables(comparison)))


def as_csv(comparison: Comparison) -> str:
    """Format runs, methods and pairs as one tidy table, see `COLUMNS` of `salad.evaluation.tidy`."""
    of = "method" if len(comparison.methods) > 1 else "run"
    rows = [*_run_rows(comparison.runs), *method_rows(comparison.methods), *pair_rows(comparison.pairs, of=of)]
    return tidy_csv(rows).rstrip("\n")


def as_latex(comparison: Comparison) -> str:
    """Format the tables as LaTeX; they need the package booktabs."""
    return "\n\n".join(map(latex_table, tables(comparison)))


FORMATS = {"text": as_text, "csv": as_csv, "latex": as_latex}
