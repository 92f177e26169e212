"""Write the files of a study: page, tidy table, LaTeX and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from salad.evaluation.tables import Table, latex_table, pair_table, text_table
from salad.evaluation.tidy import tidy_csv
from salad.runs.atomic import atomic_file
from salad.study.jobs import Failure
from salad.study.page import Content, auc_note, make_page, pair_note
from salad.study.plan import Run
from salad.study.results import Outcome, Row, compare_methods, measure, read_outcomes, scores_by_method, tidy_rows
from salad.study.roc import write_roc
from salad.study.tables import method_table, paper_table

PAGE, CSV, LATEX = "study.html", "study.csv", "study.tex"


def write_study(
    runs: Sequence[Run], *, failures: Sequence[Failure], facts: dict[str, Any], command: str, out: Path
) -> str:
    """Write what the finished runs have measured: the page, and what else there are numbers for.

    Args:
        runs: all runs, done or not.
        failures: runs that failed.
        facts: of study.json.
        command: command line of the study.
        out: folder of the study.

    Returns:
        The tables of methods and of pairs as text; empty if no run is done.

    Raises:
        InputError: the runs of a fold differ in their test images.
        StorageError: a file cannot be written.
    """
    outcomes = read_outcomes(runs)
    rows = _rows_of(outcomes, facts["methods"])
    pairs, scores = compare_methods(outcomes), scores_by_method(outcomes)
    figure = write_roc(scores, out, order=[*facts["methods"]]) if scores else None
    content = Content(
        facts=facts,
        command=command,
        runs=runs,
        failures=failures,
        outcomes=outcomes,
        rows=rows,
        pairs=pairs,
        figure=figure,
    )
    _write(out / PAGE, make_page(content))
    if not outcomes:
        return ""
    _write(out / CSV, tidy_csv(tidy_rows(outcomes, pairs)))
    _write(out / LATEX, _latex(paper_table(rows), pair_table(pairs), folds=facts["folds"]))
    return "\n\n".join(text_table(table) for table in (method_table(rows), pair_table(pairs)) if table.rows)


def _rows_of(outcomes: Sequence[Outcome], methods: Iterable[str]) -> list[Row]:
    """Collect the numbers of each method that has any."""
    own = {method: [outcome for outcome in outcomes if outcome.method == method] for method in methods}
    return [{"method": method, "runs": len(of), **measure(of)} for method, of in own.items() if of]


def _latex(methods: Table, pairs: Table, *, folds: int | None) -> str:
    """Compose study.tex, whose comments say what the numbers are."""
    blocks = [f"% {auc_note(folds)}\n{latex_table(methods)}"]
    blocks += [f"% {pair_note(folds)}\n{latex_table(pairs)}"] if pairs.rows else []
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(blocks) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
