"""Compose report.html from a scored split and its gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salad.datasets.more_normals import describe_kinds
from salad.errors import printable
from salad.report import content, curves
from salad.report.captions import (
    RESEARCH_ONLY,
    gallery_note,
    network_name,
    run_facts,
    training_command,
    untrained_note,
    words,
)
from salad.report.cases import GROUPS, draw_others
from salad.report.details import HEATS, Detail, thumbnails
from salad.report.history import read_history
from salad.report.page import render_page
from salad.report.plane import Plane, embedding_plane, patch_plane
from salad.report.table import Note, judge, located_rows, metric_rows, tiles

if TYPE_CHECKING:
    from salad.checkpoint import Checkpoint
    from salad.config import Config
    from salad.evaluation.localisation import Localisation
    from salad.evaluation.result import Result
    from salad.evaluation.summary import Summary
    from salad.runs.folder import RunFolder
    from salad.scoring.model import ScoringModel

MAX_POINTS = 1200  # test images on the map, each with a thumbnail
THUMB_SIDE = 48  # of a thumbnail, in pixels
SCRIPTS = ("views.js", "tools.js", "threshold.js", "curves.js", "map.js", "dialog.js", "detail.js", "gallery.js")


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Scored test images, and the run behind them.

    Attributes:
        result: scores of the test images.
        summary: numbers of the result.
        located: comparison of the maps with the marks of experts; None without marks.
        model: model that scored the images.
        checkpoint: checkpoint that the model was loaded from.
        folder: folder of the report; metrics.jsonl is read from the folder of the checkpoint, else from this one.
        command: command line of the scoring.
    """

    result: Result
    summary: Summary
    located: Localisation | None = None
    model: ScoringModel
    checkpoint: Checkpoint
    folder: RunFolder
    command: str

    @property
    def config(self) -> Config:
        """Options of the scoring."""
        return self.model.config


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images of the gallery, and the threshold for their misses and false alarms.

    Attributes:
        cases: groups of each image, by its index.
        details: explanations of the cases, in the same order; empty where nothing could be explained.
        threshold: initial threshold of the slider.
        threshold_note: reason for this threshold.
    """

    cases: dict[int, tuple[str, ...]]
    details: Sequence[Detail]
    threshold: float
    threshold_note: str


def make_page(scoring: Scoring, gallery: Gallery) -> str:
    """Compose the text of report.html."""
    result, config, checkpoint = scoring.result, scoring.config, scoring.checkpoint
    has_map = checkpoint.embeds or bool(scoring.model.memories)
    most = MAX_POINTS if has_map else 0  # without a map, the page needs no images but those of the gallery
    indices = draw_others(len(result.scores), known=list(gallery.cases), most=most, seed=config.run.seed)
    items = _items(scoring, gallery, indices)
    details, neighbour_pictures = content.detail_data(gallery.details)
    cards = [{**item, **detail} for item, detail in zip(items, details, strict=False)] or items[: len(gallery.cases)]
    plane = _plane(scoring, indices)
    history = read_history([checkpoint.path.parent, scoring.folder.path])
    epoch = checkpoint.training.get("epoch")
    data = {
        "items": [*map(content.without_card_pictures, cards), *items[len(cards) :]],
        "pictures": neighbour_pictures,
        "threshold": content.threshold_data(result, start=gallery.threshold),
        "curves": content.curve_data(result, seed=config.run.seed),
        "history": content.history_data(history, scored_epoch=epoch, embeds=checkpoint.embeds),
        "map": plane and content.map_data(plane),
        "words": words(config, checkpoint, details=gallery.details, k=result.k),
    }
    return render_page(
        "report.html",
        styles=("report.css",),
        scripts=SCRIPTS,
        **_results(scoring),
        **_gallery(scoring, gallery, cards),
        **_run(scoring),
        threshold_note=gallery.threshold_note,
        has_curves=data["curves"] is not None,
        has_history=history is not None,
        history_source=history and printable(history.source),
        map_title=plane and plane.title,
        map_dims=plane and plane.num_dims,
        map_caption=plane and content.map_caption(plane, num_images=len(result.scores)),
        data=data,
    )


def _results(scoring: Scoring) -> dict[str, Any]:
    """Collect the values of the header and of the section Results."""
    config, result, summary = scoring.config, scoring.result, scoring.summary
    scored = config.data.data_path.name or config.data.dataset_name
    return {
        "title": printable(f"{scored}, scored by {network_name(config, scoring.checkpoint)}"),
        "subtitle": printable(f"{len(result.scores):,} test images: {result.split}"),
        "tiles": tiles(summary),
        "notes": [*map(Note, result.warnings), *judge(summary)],
        "rows": [*metric_rows(summary), *(located_rows(scoring.located) if scoring.located else ())],
    }


def _gallery(scoring: Scoring, gallery: Gallery, cards: list[dict[str, Any]]) -> dict[str, Any]:
    """Collect the values of the section Gallery."""
    num_images = len(scoring.result.scores)
    return {
        "groups": GROUPS,
        "heats": HEATS,
        "cards": cards,
        "findings": sorted({name for item in cards for name in item["findings"]}),
        "untrained_note": untrained_note(scoring.checkpoint, has_map=bool(scoring.model.memories)),
        "gallery_note": gallery_note(len(gallery.cases), num_images=num_images, details=gallery.details),
    }


def _run(scoring: Scoring) -> dict[str, Any]:
    """Collect the values of the section Run, and of captions that depend on options."""
    config, checkpoint, kinds = scoring.config, scoring.checkpoint, scoring.model.kinds
    facts = run_facts(scoring.result, config, checkpoint)
    facts += [("Normals of the memory", describe_kinds(kinds))] if len(kinds) > 1 else []
    return {
        "num_resamples": curves.NUM_RESAMPLES,
        "seed": config.run.seed,
        "facts": [(name, printable(value)) for name, value in facts],
        "command": printable(scoring.command),
        "research_only": RESEARCH_ONLY,
        "trained_with": printable(training_command(checkpoint) or ""),
    }


def _items(scoring: Scoring, gallery: Gallery, indices: list[int]) -> list[dict[str, Any]]:
    """Collect the data of all images on the page, with thumbnails."""
    images, config = scoring.result.split.images, scoring.config
    assert images is not None, "they have been scored"
    thumbs = thumbnails(
        images,
        indices,
        preprocessing=scoring.model.context.preprocessing,
        most=THUMB_SIDE,
        num_threads=config.data.n_jobs_dataloader,
    )
    return content.item_data(scoring.result, indices, thumbs=thumbs, cases=gallery.cases)


def _plane(scoring: Scoring, indices: list[int]) -> Plane | None:
    """Map these test images; None where the score compares neither trained embeddings nor patch features."""
    result, model, seed = scoring.result, scoring.model, scoring.config.run.seed
    if scoring.checkpoint.embeds:
        return embedding_plane(result, scoring.checkpoint, indices, seed=seed)
    return patch_plane(result, model, indices, seed=seed) if model.memories else None
