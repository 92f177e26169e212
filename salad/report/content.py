"""Convert a result to plain values for the template and the scripts of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from salad.errors import printable
from salad.evaluation.calibration import shown_score
from salad.evaluation.result import Result
from salad.evaluation.summary import Summary
from salad.report import curves
from salad.report.details import HEATS, Detail
from salad.report.history import TITLES, History
from salad.samples import Sample

if TYPE_CHECKING:
    from salad.report.plane import Plane

MAX_NAME = 160  # characters of a name on the page
MAX_FINDINGS = 12  # of an image
DIGITS = 4  # after the point, of numbers in the data of the page


def shown_name(name: str) -> str:
    """Make a name printable, and shorten a long one in the middle."""
    text = printable(name)
    half = MAX_NAME // 2
    return text if len(text) <= MAX_NAME else f"{text[:half]}...{text[-half:]}"


def start_threshold(result: Result, summary: Summary) -> tuple[float, str]:
    """Find the initial threshold of the slider, and the sentence that explains it."""
    if summary.decision:
        decision = summary.decision
        how = f"{decision.rule}; no test image was used to set it"
        return decision.threshold, f"Starts at {shown_score(decision.threshold)}: {how}."
    scores = result.normal_scores if len(result.normal_scores) else result.scores
    which = "normal test images" if len(result.normal_scores) else "test images"
    value = float(np.median(scores))
    where = f"at the median of the {which}, {shown_score(value)}"
    return value, f"No validation normals to set a threshold: it starts {where}."


def threshold_data(result: Result, *, start: float) -> dict[str, Any]:
    """Count the images at every threshold, and make the histograms."""
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
        "shares": {name: _rounded(shares) for name, shares in bins.shares.items()},
    }


def curve_data(result: Result, *, seed: int) -> dict[str, Any] | None:
    """Compute the ROC curve with its band, and the precision-recall curve; None where a class is missing."""
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
    """Convert the history of the training to plain values.

    Args:
        history: None without one.
        scored_epoch: epoch of the model that scored; None where it is unknown.
        embeds: whether a loss has trained the embeddings; if not, their spread is left out.
    """
    if history is None:
        return None
    return {
        "epochs": history.epochs,
        "rounds": history.rounds,
        "series": {title: values for title, values in history.series.items() if embeds or title != TITLES["spread"]},
        "scored": scored_epoch,
    }


def map_data(plane: Plane) -> dict[str, Any]:
    """Convert the coordinates of the items, in their order, and of the memory rows to plain values."""
    return {"items": _rounded(plane.z), "rows": _rounded(plane.rows), "explained": list(plane.explained)}


def item_data(
    result: Result, places: Sequence[int], *, thumbs: Sequence[str], cases: dict[int, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Collect the data of the images on the page.

    Args:
        result: of the test images.
        places: indices of the images: first those of the gallery, then those that only the map shows.
        thumbs: thumbnails of the images, as data URIs.
        cases: groups of the images of the gallery, by index.
    """
    percentiles = result.percentiles
    return [
        {
            "name": shown_name((sample := result.split.samples[index]).name),
            "label": sample.label,
            "score": float(result.scores[index]),
            "percentile": None if percentiles is None else round(float(percentiles[index]), 2),
            "facts": _facts_of(sample),
            "findings": [printable(finding)[:60] for finding in sample.findings[:MAX_FINDINGS]],
            "groups": list(cases.get(index, ())),
            "thumb": thumb,
        }
        for index, thumb in zip(places, thumbs, strict=True)
    ]


def _facts_of(sample: Sample) -> list[str]:
    """List view, sex and age of an image where known; never its patient or study."""
    age = None if sample.age is None else f"{sample.age:g} years"
    return [printable(fact)[:60] for fact in (sample.view, sample.sex, age) if fact]


def detail_data(details: Sequence[Detail]) -> tuple[list[dict[str, Any]], list[str]]:
    """Collect the data of each detail, and the pictures of all neighbours without repeats."""
    pictures: dict[str, str] = {}
    of_details = []
    for detail in details:
        for name, _far, picture in detail.neighbours:
            if picture is not None:
                pictures.setdefault(name, picture)
        order = list(pictures)
        neighbours = [
            {"name": shown_name(name), "far": far, "picture": order.index(name) if name in pictures else None}
            for name, far, _picture in detail.neighbours
        ]
        places = [
            {
                **place._asdict(),
                **{name: round(value, DIGITS) for name, value in place._asdict().items() if name != "words"},
            }
            for place in detail.places
        ]
        sentence = {"sentence": detail.sentence, "places": places}
        of_details.append({"pictures": detail.pictures, "neighbours": neighbours, **sentence})
    return of_details, list(pictures.values())


def without_card_pictures(item: dict[str, Any]) -> dict[str, Any]:
    """Remove the two pictures that the card of an item shows already; the script reads them from the card."""
    if "pictures" not in item:
        return item
    on_card = {"input", heat_kind(item["pictures"])}
    return {**item, "pictures": {kind: uri for kind, uri in item["pictures"].items() if kind not in on_card}}


def heat_kind(pictures: dict[str, str]) -> str | None:
    """Choose the map that a card shows, the first of `HEATS` among the pictures; None without one."""
    return next((kind for kind in HEATS if kind in pictures), None)


def map_caption(plane: Plane, *, num_images: int) -> str:
    """Write the caption of the map: its axes, its points and their number."""
    drawn = f"{len(plane.z):,} test images" + (f" out of {num_images:,}" if len(plane.z) < num_images else "")
    rows = f", with {len(plane.rows):,} memory rows of normal training images in grey" if len(plane.rows) else ""
    return f"First two principal axes of {drawn}{rows}. Circles: normal; triangles: abnormal; large: in the gallery."


def _rounded(values: np.ndarray) -> list[Any]:
    return np.round(np.asarray(values, dtype=np.float64), DIGITS).tolist()  # type: ignore[no-any-return]
