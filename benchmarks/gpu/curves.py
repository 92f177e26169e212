"""Curves of the AUC over the rounds of a training, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.gpu.training import SCORES

COLUMNS = 2


def draw_curves(values: dict[str, Any], path: Path) -> None:
    """Draw a panel for each training with finished rounds: the AUC of every score by round.

    Args:
        values: results of the stage `paper`, by the name of the training.
        path: PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trainings = {name: value for name, value in values.items() if value.get("rounds")}
    if not trainings:
        return
    num_rows = -(-len(trainings) // COLUMNS)
    figure = Figure(figsize=(5.5 * COLUMNS, 3.4 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(num_rows, COLUMNS, squeeze=False).flatten()
    for panel, (name, value) in zip(panels, trainings.items(), strict=False):
        for score in (*SCORES, "image std"):
            points = [(line["round"], line["auc"][score]) for line in value["rounds"] if line["auc"].get(score)]
            rounds, aucs = [number for number, _ in points], [found["value"] for _, found in points]
            panel.plot(rounds, aucs, label=score, marker=".", linestyle="--" if score == "image std" else "-")
        panel.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
        panel.set(title=name, xlabel="round", ylabel=f"AUC on {value['curve of']}/", ylim=(0, 1))
    for panel in panels[len(trainings) :]:
        panel.set_axis_off()
    panels[0].legend(fontsize="small")
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(path)
