"""Plot an explanation for notebooks and papers."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

from salad.errors import printable
from salad.evaluation.calibration import shown_score
from salad.explaining.overlays import PANEL, Panel, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from salad.explaining.explanation import Explanation

WIDTH, HEIGHT = 2.6, 3.4  # of a panel with its title and colour bar, in inches
NUM_NEIGHBOURS = 3
DPI = 110  # in a notebook


def plot(explanation: Explanation) -> Figure:
    """Plot the scored image, its maps with their colour bars, and the nearest normal images.

    Args:
        explanation: explanation of an image.

    Returns:
        A figure that belongs to no window; its `savefig` writes it.
    """
    from matplotlib.figure import Figure

    frame = len(explanation.scored_pixels)
    panels = [Panel(explanation.scored_pixels, frame, _caption(explanation)), *panels_of(explanation, side=PANEL)]
    pictures = [near.pixels for near in explanation.neighbours if near.pixels is not None][:NUM_NEIGHBOURS]
    panels += [Panel(pixels, frame, f"nearest normal image {i}") for i, pixels in enumerate(pictures, start=1)]
    figure = Figure(figsize=(WIDTH * len(panels), HEIGHT), layout="compressed")
    grid = figure.subplots(2, len(panels), squeeze=False, height_ratios=(1, 0.04))
    for axes, below, panel in zip(*grid, panels, strict=True):
        _draw(axes, panel)
        _draw_bar(below, panel)
    return figure


def _caption(explanation: Explanation) -> str:
    rank = "" if explanation.percentile is None else f"\nabove {explanation.percentile:.0f} % of normal images"
    return f"score {shown_score(explanation.score)}{rank}"


def _draw(axes: Axes, panel: Panel) -> None:
    """Draw the picture of a panel below its title."""
    axes.imshow(panel.pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_title(panel.title.replace("; ", ";\n"), fontsize=9)
    axes.axis("off")


def _draw_bar(axes: Axes, panel: Panel) -> None:
    """Draw the scale of the colours of a panel, if it has colours."""
    if panel.scale is None:
        axes.axis("off")
        return
    axes.imshow(panel.scale.bar, aspect="auto", extent=(*panel.scale.ends, 0, 1))
    axes.tick_params(labelsize=7)
    axes.set(yticks=[])


def as_html(explanation: Explanation) -> str:
    """Compose a figure element with the plot and the sentence of an explanation, for a notebook."""
    file = io.BytesIO()
    plot(explanation).savefig(file, format="png", dpi=DPI)
    picture = base64.b64encode(file.getvalue()).decode("ascii")
    said = html.escape(printable(explanation.sentence))
    return f'<figure><img alt="" src="data:image/png;base64,{picture}"><figcaption>{said}</figcaption></figure>'
