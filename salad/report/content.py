"""Everything that the page shows, as plain values for its template and its script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salad.errors import printable
from salad.evaluation.result import Result
from salad.evaluation.summary import Summary
from salad.report import curves
from salad.report.details import HEATS, Detail
from salad.report.history import TITLES, History
from salad.samples import Sample

MAX_NAME = 160  # characters that are shown of a name
MAX_FINDINGS = 12  # of an image
DIGITS = 4


def shown_name(name: str) -> str:
    """A name for the page: printable, and bounded in its middle."""
    text = printable(name)
    half = MAX_NAME // 2
    return text if len(text) <= MAX_NAME else f"{text[:half]}...{text[-half:]}"


def start_threshold(result: Result, summary: Summary) -> tuple[float, str]:
    """Where the slider starts, and why there."""
    if summary.decision:
        found = summary.decision
        share = f"{100 * found.specificity_wanted:g} % of {found.num_val_normals} validation normals"
        how = f"{share} score at or below it, and no test image had a say"
        return found.threshold, f"Starts at {found.threshold:.6g}: {how}."
    of = result.normal_scores if len(result.normal_scores) else result.scores
    which = "normal test images" if len(result.normal_scores) else "test images"
    value = float(np.median(of))
    return value, f"No validation normals fix a threshold: it starts at the median of the {which}, {value:.6g}."


def threshold_data(result: Result, *, start: float) -> dict[str, Any]:
    """Counts at every threshold, and the histograms."""
    levels = curves.Levels.of(result.labels, result.scores, extra=[start])
    truth = np.asarray(result.labels)
    scores = {"normal": result.scores[truth == 0], "abnormal": result.scores[truth == 1]}
    if result.calibration:
        scores["validation"] = result.calibration.scores
    bins = curves.histogram(scores, must_show=start)
    return {
        "thresholds": levels.thresholds.tolist(),
        "normal": levels.normal.tolist(),
        "abnormal": levels.abnormal.tolist(),
        "num": [levels.num_normal, levels.num_abnormal],
        "complete": levels.is_complete,
        "start": start,
        "edges": bins.edges.tolist(),
        "shares": {name: _rounded(one) for name, one in bins.shares.items()},
    }


def curve_data(result: Result, *, seed: int) -> dict[str, Any] | None:
    """ROC with its band, and precision-recall; None where a class is missing."""
    levels = curves.Levels.of(result.labels, result.scores)
    if not levels.has_both_classes:
        return None
    return {
        "roc": _rounded(curves.thin(curves.roc(levels))),
        "band": _rounded(curves.roc_band(result.labels, result.scores, seed=seed)),
        "pr": _rounded(curves.thin(curves.precision_recall(levels))),
        "prevalence": levels.num_abnormal / (levels.num_normal + levels.num_abnormal),
    }


def history_data(history: History | None, *, scored_epoch: int | None, embeds: bool) -> dict[str, Any] | None:
    """The course of the training, without embeddings that no loss has trained, and the epoch that was scored."""
    if history is None:
        return None
    return {
        "epochs": history.epochs,
        "rounds": history.rounds,
        "series": {title: one for title, one in history.series.items() if embeds or title != TITLES["spread"]},
        "scored": scored_epoch,
    }


def map_data(plane: Plane) -> dict[str, Any]:
    """Places of the items, in their order, and of memory rows."""
    return {"items": _rounded(plane.z), "rows": _rounded(plane.rows), "explained": list(plane.explained)}


def item_data(
    result: Result, places: Sequence[int], *, thumbs: Sequence[str], cases: dict[int, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """The images that the page knows: first those of the gallery, then those of the map alone."""
    percentiles = result.percentiles
    return [
        {
            "name": shown_name((sample := result.split.samples[place]).name),
            "label": sample.label,
            "score": float(result.scores[place]),
            "percentile": None if percentiles is None else round(float(percentiles[place]), 2),
            "facts": _facts_of(sample),
            "findings": [printable(finding)[:60] for finding in sample.findings[:MAX_FINDINGS]],
            "groups": list(cases.get(place, ())),
            "thumb": thumb,
        }
        for place, thumb in zip(places, thumbs, strict=True)
    ]


def _facts_of(sample: Sample) -> list[str]:
    """What is known of an image; never its patient or study."""
    age = None if sample.age is None else f"{sample.age:g} years"
    return [printable(fact)[:60] for fact in (sample.view, sample.sex, age) if fact]


def detail_data(details: Sequence[Detail]) -> tuple[list[dict[str, Any]], list[str]]:
    """The detail of each case, and the pictures of their neighbours, each of them once."""
    pictures: dict[str, str] = {}
    shown = []
    for detail in details:
        for name, _far, picture in detail.neighbours:
            if picture is not None:
                pictures.setdefault(name, picture)
        order = list(pictures)
        neighbours = [
            {"name": shown_name(name), "far": far, "picture": order.index(name) if name in pictures else None}
            for name, far, _picture in detail.neighbours
        ]
        shown.append({"pictures": detail.pictures, "neighbours": neighbours})
    return shown, list(pictures.values())


def without_card_pictures(item: dict[str, Any]) -> dict[str, Any]:
    """An item without the two pictures that its card in the gallery shows: the script takes them from there."""
    if "pictures" not in item:
        return item
    on_card = {"input", heat_kind(item["pictures"])}
    return {**item, "pictures": {name: one for name, one in item["pictures"].items() if name not in on_card}}


def heat_kind(pictures: dict[str, str]) -> str | None:
    """Which of the maps a card shows."""
    return next((kind for kind in HEATS if kind in pictures), None)


def map_caption(plane: Plane, *, num_images: int) -> str:
    """What the points are, and how many."""
    drawn = f"{len(plane.z):,} test images" + (f", drawn from {num_images:,}" if len(plane.z) < num_images else "")
    rows = f", with {len(plane.rows):,} memory rows of normal training images in grey" if len(plane.rows) else ""
    return f"The two principal axes of {drawn}{rows}. Round: normal; triangles: abnormal; large: in the gallery."


def _rounded(values: np.ndarray) -> list[Any]:
    return np.round(np.asarray(values, dtype=np.float64), DIGITS).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Embeddings on two principal axes.

    Attributes:
        z: of test images, (N, 2).
        rows: of the memory, (M, 2).
        explained: share of the variance of the test images along each axis.
    """

    z: np.ndarray
    rows: np.ndarray
    explained: tuple[float, float]


def principal_plane(z: np.ndarray, rows: np.ndarray) -> Plane:
    """Principal component analysis of test images; memory rows are put on the same axes.

    They do not take part in it: training may leave them far from where the weights place images in eval mode, and the
    axes would show that gap and nothing else.

    Args:
        z: embeddings, (N, D), D at least 1.
        rows: of the memory, (M, D).

    Returns:
        With signs that depend on the data alone: the largest weight of an axis is positive.
    """
    centre = z.mean(axis=0, dtype=np.float64)
    centred = z - centre
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    places = np.concatenate([centred, rows - centre]) @ axes
    total = values.clip(min=0).sum()
    explained = values[::-1][:2].clip(min=0) / total if total > 0 else np.zeros(2)
    if axes.shape[1] == 1:  # embeddings of one number
        places, explained = np.pad(places, ((0, 0), (0, 1))), np.append(explained[:1], 0.0)
    return Plane(z=places[: len(z)], rows=places[len(z) :], explained=(float(explained[0]), float(explained[1])))
