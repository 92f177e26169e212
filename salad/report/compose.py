"""The text of report.html, from a scoring and the images that are shown of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from salad.errors import printable
from salad.report import content, curves
from salad.report.captions import gallery_note, run_facts, training_command, untrained_note, words
from salad.report.cases import GROUPS, draw_others
from salad.report.content import Plane, principal_plane
from salad.report.details import HEATS, Detail, thumbnails
from salad.report.history import read_history
from salad.report.table import judge, metric_rows, tiles
from salad.samples import NORMAL

if TYPE_CHECKING:
    from salad.checkpoint import Checkpoint
    from salad.config import Config
    from salad.evaluation.result import Result
    from salad.evaluation.summary import Summary
    from salad.runs.folder import RunFolder
    from salad.scoring.model import ScoringModel

MAX_POINTS = 1200  # of the map, and so small pictures
MAX_ROWS = 800  # of the memory, on the map
THUMB_SIDE = 48


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What a report tells of.

    Attributes:
        result: of the test images.
        summary: of the same.
        model: that scored.
        checkpoint: that the model was loaded from.
        folder: where the report goes; metrics.jsonl may lie there, besides the folder of the checkpoint.
        command: what was typed.
    """

    result: Result
    summary: Summary
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
    """The images that are shown large, and the threshold that chose some of them.

    Attributes:
        cases: the groups of each image, by place.
        details: of these, in their order; empty where nothing explains them.
        threshold: where the slider starts.
        threshold_note: why there.
    """

    cases: dict[int, tuple[str, ...]]
    details: Sequence[Detail]
    threshold: float
    threshold_note: str


def make_page(scoring: Scoring, gallery: Gallery) -> str:
    """The text of report.html."""
    result, config, checkpoint = scoring.result, scoring.config, scoring.checkpoint
    most = MAX_POINTS if checkpoint.embeds else 0  # besides the gallery, only the map shows images
    places = draw_others(len(result.scores), known=list(gallery.cases), most=most, seed=config.run.seed)
    items = _items(scoring, gallery, places)
    shown, neighbour_pictures = content.detail_data(gallery.details)
    cards = [{**item, **detail} for item, detail in zip(items, shown, strict=False)] or items[: len(gallery.cases)]
    plane = _plane(result, checkpoint, places, seed=config.run.seed) if checkpoint.embeds else None
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
    return render(
        **_results(scoring),
        **_shown(scoring, gallery, cards),
        **_run(scoring),
        threshold_note=gallery.threshold_note,
        has_curves=data["curves"] is not None,
        has_history=history is not None,
        history_source=history and printable(history.source),
        map_caption=plane and content.map_caption(plane, num_images=len(result.scores)),
        data=data,
    )


def _results(scoring: Scoring) -> dict[str, Any]:
    """The head of the page."""
    config, result, summary = scoring.config, scoring.result, scoring.summary
    return {
        "title": printable(
            f"{config.data.data_path.name or config.data.dataset_name}, scored by {config.network.net_name}"
        ),
        "subtitle": printable(f"{len(result.scores):,} test images: {result.split}"),
        "tiles": tiles(summary),
        "notes": judge(summary),
        "rows": metric_rows(summary),
    }


def _shown(scoring: Scoring, gallery: Gallery, cards: list[dict[str, Any]]) -> dict[str, Any]:
    """The gallery."""
    num_images = len(scoring.result.scores)
    return {
        "groups": GROUPS,
        "heats": HEATS,
        "cards": cards,
        "findings": sorted({name for item in cards for name in item["findings"]}),
        "untrained_note": untrained_note(scoring.checkpoint),
        "gallery_note": gallery_note(len(gallery.cases), num_images=num_images, details=gallery.details),
    }


def _run(scoring: Scoring) -> dict[str, Any]:
    """What was run, and how."""
    config, checkpoint = scoring.config, scoring.checkpoint
    return {
        "num_resamples": curves.NUM_RESAMPLES,
        "seed": config.run.seed,
        "rep_dim": config.network.rep_dim,
        "facts": [(name, printable(value)) for name, value in run_facts(scoring.result, config, checkpoint)],
        "command": printable(scoring.command),
        "trained_with": printable(training_command(checkpoint) or ""),
    }


def _items(scoring: Scoring, gallery: Gallery, places: list[int]) -> list[dict[str, Any]]:
    """The images that the page knows, with small pictures."""
    images, config = scoring.result.split.images, scoring.config
    assert images is not None, "they have been scored"
    thumbs = thumbnails(
        images,
        places,
        preprocessing=scoring.model.context.preprocessing,
        most=THUMB_SIDE,
        num_threads=config.data.n_jobs_dataloader,
    )
    return content.item_data(scoring.result, places, thumbs=thumbs, cases=gallery.cases)


def _plane(result: Result, checkpoint: Checkpoint, places: Sequence[int], *, seed: int) -> Plane:
    """The map: some test images, and some memory rows of normal images."""
    rows, labels = checkpoint.bank.rows, checkpoint.row_labels
    normal = np.arange(len(rows)) if labels is None else np.flatnonzero(labels.numpy() == NORMAL)
    if len(normal) > MAX_ROWS:
        normal = np.sort(np.random.default_rng(seed).choice(normal, MAX_ROWS, replace=False))
    return principal_plane(result.z[list(places)], rows[normal.tolist()].float().cpu().numpy())


TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("tools.js", "threshold.js", "curves.js", "map.js", "detail.js", "gallery.js")


def render(**content: Any) -> str:
    """The page.

    Everything that is shown is escaped. The page's own policy lets a browser run and style nothing but what stands
    in the templates, and load nothing from anywhere.

    Args:
        content: what report.html asks for; a name that it lacks is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    parts = [(TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS]
    script = '"use strict";\n{\n' + "\n".join(parts) + "\n}\n"
    return environment.get_template("report.html").render(
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        **content,
    )


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
