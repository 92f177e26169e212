"""Draw ROC, histograms and gallery as PNG and SVG files for papers; text in an SVG stays text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from salad.evaluation.calibration import shown_score
from salad.report import curves
from salad.report.cases import GROUPS, members

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from salad.evaluation.result import Result
    from salad.explaining.overlays import Scale
    from salad.report.details import Detail

NORMAL_COLOUR, ABNORMAL_COLOUR = "#0072b2", "#d55e00"  # Okabe and Ito: distinct for colour-blind people, too
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "salad",  # equal results give equal files
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}  # above the axes, where no data is
MAX_COLUMNS = 8
SIDE, HEADING = 0.95, 0.42  # side of an image and height of a heading, in inches
FOOT, BAR_WIDTH = 0.6, 3.2  # height of the foot with the colour bar, and width of the bar, in inches


def write_figures(
    folder: Path,
    result: Result,
    *,
    threshold: float,
    seed: int,
    cases: dict[int, tuple[str, ...]],
    details: Sequence[Detail],
) -> None:
    """Write the histogram, the ROC where both classes have images, and the gallery where there are details.

    Args:
        folder: for the figures; made if missing.
        result: of a split.
        threshold: drawn in the histogram.
        seed: of the bootstrap behind the band of the ROC.
        cases: groups of the images of the gallery, by index.
        details: explanations of the cases, in the same order; empty where nothing could be explained.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figures = {"histogram": _histogram(result, threshold)}
        if result.auc is not None:
            figures["roc"] = _roc(result, seed)
        if details:
            figures["gallery"] = _gallery(result, cases, details)
        folder.mkdir(exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=300, bbox_inches="tight")
            figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})


def _figure(width: float, height: float) -> Figure:
    """Make a figure of this size in inches, without pyplot, which would look for a screen and keep the figure."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _roc(result: Result, seed: int) -> Figure:
    figure = _figure(3.4, 3.4)
    axes = figure.add_subplot()
    rates, low, high = curves.roc_band(result.labels, result.scores, seed=seed).T
    path = curves.thin(curves.roc(curves.Levels.of(result.labels, result.scores)))
    assert result.auc is not None, "write_figures has checked it"
    axes.fill_between(rates, low, high, color=NORMAL_COLOUR, alpha=0.2, lw=0, label="95 % band")
    name = f"AUC {result.auc.value:.3f} ({result.auc.low:.3f}-{result.auc.high:.3f})"
    axes.plot(*path.T, color=NORMAL_COLOUR, label=name)
    axes.plot([0, 1], [0, 1], color="0.5", lw=0.8, ls=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(**ABOVE, ncols=2)
    return figure


def _histogram(result: Result, threshold: float) -> Figure:
    figure = _figure(4.6, 2.8)
    axes = figure.add_subplot()
    truth = np.asarray(result.labels)
    by_class = {"normal": result.scores[truth == 0], "abnormal": result.scores[truth == 1]}
    bins = curves.histogram(by_class, must_show=threshold)
    for name, colour in (("normal", NORMAL_COLOUR), ("abnormal", ABNORMAL_COLOUR)):
        if name in bins.shares:
            style: dict[str, Any] = {"color": colour, "label": f"{name} ({len(by_class[name])})"}
            axes.stairs(100 * bins.shares[name], bins.edges, fill=True, alpha=0.25, color=colour)
            axes.stairs(100 * bins.shares[name], bins.edges, ls="-" if name == "normal" else "--", **style)
    axes.axvline(threshold, color="black", lw=0.9, label="threshold")
    axes.set(xlabel="score", ylabel="images of the class (%)")
    axes.legend(**ABOVE, ncols=3)
    return figure


def _gallery(result: Result, cases: dict[int, tuple[str, ...]], details: Sequence[Detail]) -> Figure:
    """Draw a row of images and a row of heatmaps for each group, without file names."""
    explained = dict(zip(cases, details, strict=True))
    rows = members(cases, most=MAX_COLUMNS)
    num_columns = max(map(len, rows.values()))
    height = (2 * SIDE + HEADING) * len(rows) + FOOT
    figure = _figure(SIDE * num_columns, height)
    grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, indices) in zip(grid, rows.items(), strict=True):
        of_group = [explained[index] for index in indices]
        side = of_group[0].input.shape[0]
        step = side + max(1, side // 24)
        sheet = np.full((2 * step, num_columns * step, 3), 255, np.uint8)  # one sheet draws faster than many pictures
        for column, (index, detail) in enumerate(zip(indices, of_group, strict=True)):
            left = column * step
            sheet[:side, left : left + side] = detail.input[..., None]
            if detail.heat is not None:
                sheet[step : step + side, left : left + side] = detail.heat
            axes.text(left + side / 2, -side / 20, shown_score(result.scores[index]), ha="center", fontsize=7)
        axes.imshow(sheet)
        axes.set_title(GROUPS[name], loc="left", fontsize=9, pad=12)
        axes.axis("off")
    figure.subplots_adjust(left=0, right=1, bottom=FOOT / height, top=0.95, hspace=0.15)
    if (scale := details[0].heat_scale) is not None:  # the same for all
        width = min(1, BAR_WIDTH / (SIDE * num_columns))
        _draw_scale(figure.add_axes((0, 0.6 * FOOT / height, width, 0.2 * FOOT / height)), scale)
    return figure


def _draw_scale(axes: Axes, scale: Scale) -> None:
    """Draw the colour bar of a map, with the values at its ends and at its line, and its quantity below."""
    low, high = scale.ends
    axes.imshow(scale.bar, extent=(low, high, 0, 1), aspect="auto")
    values = {
        low: f"{low:.2g}",
        **({scale.line: f"{scale.line:.2g}"} if scale.line else {}),
        high: f"{high:.2g} and more",
    }
    axes.set_xticks(list(values), list(values.values()), fontsize=7)
    axes.set_yticks([])
    axes.set_xlabel(f"Colours: {scale.title}", fontsize=8, loc="left")
