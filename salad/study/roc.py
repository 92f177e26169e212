"""Draw the ROC curves of all methods of a study in one figure."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from salad.evaluation.comparison import Run, group_auc
from salad.report.curves import Levels, roc
from salad.report.figures import ABOVE, STYLE
from salad.runs.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777")  # Okabe and Ito, and grey
DASHES = ("-", "--", ":", "-.")  # of the first seven methods, of the next seven, and so on
FORMATS: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "png": {}, "svg": {"Date": None}}  # without dates
NAME = "roc"
NUM_POINTS = 201  # of a mean curve


def style_of(number: int) -> tuple[str, str]:
    """Choose colour and dashes of the method with this number, from 0, wherever it is drawn."""
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]


def mean_roc(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray | None]:
    """Average the ROC curves of runs at each false-positive rate (Fawcett, Pattern Recognition Letters 2006).

    Scores of two models are never put together, so folds may be averaged, too.

    Args:
        runs: of one method.

    Returns:
        False-positive rate and mean true-positive rate, (P, 2); and the standard deviation of the true-positive rate
        over the runs, (P,), or None for a single run.
    """
    rates = np.linspace(0, 1, NUM_POINTS)
    paths = [roc(Levels.of([*run.labels.values()], [*run.scores.values()])) for run in runs]
    heights = np.stack([np.interp(rates, *path.T) for path in paths])
    start = np.zeros((1, 2))  # the curve may climb at a false-positive rate of 0
    curve = np.concatenate([start, np.stack([rates, heights.mean(axis=0)], axis=1)])
    spread = np.append(0.0, heights.std(axis=0, ddof=1)) if len(runs) > 1 else None
    return curve, spread


def write_roc(methods: Mapping[str, Sequence[Run]], folder: Path, *, order: Sequence[str]) -> str:
    """Draw the mean curve of each method, with a band of one standard deviation over its runs, as PDF, PNG and SVG.

    Args:
        methods: runs by method; only those with an AUC.
        folder: for the files.
        order: names of all methods of the study, which set the colours.

    Returns:
        The SVG file as a data URL.

    Raises:
        StorageError: a file cannot be written.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = _draw(methods, order)
        for form, metadata in FORMATS.items():
            with io.BytesIO() as buffer:
                figure.savefig(buffer, format=form, dpi=300, bbox_inches="tight", metadata=metadata)
                content = buffer.getvalue()
            with atomic_file(folder / f"{NAME}.{form}") as temporary:
                temporary.write_bytes(content)
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"


def _draw(methods: Mapping[str, Sequence[Run]], order: Sequence[str]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.2))
    axes = figure.add_subplot()
    for name, runs in methods.items():
        colour, dashes = style_of(order.index(name))
        curve, spread = mean_roc(runs)
        axes.plot(*curve.T, color=colour, ls=dashes, label=f"{name}, AUC {group_auc(runs).value:.3f}")
        if spread is not None:
            low, high = (np.clip(curve[:, 1] + side * spread, 0, 1) for side in (-1, 1))
            axes.fill_between(curve[:, 0], low, high, color=colour, alpha=0.18, lw=0)
    axes.plot([0, 1], [0, 1], color="0.5", lw=0.8, ls=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(**ABOVE, ncols=1)
    return figure
