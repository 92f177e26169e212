"""From a scored split to report.html and the folder of figures."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from salad.datasets.sample import NORMAL, printable
from salad.errors import InputError, StorageError
from salad.prepare import make_preprocessing
from salad.report import content, curves
from salad.report.cases import GROUPS, choose_cases, draw_others
from salad.report.details import HEATS, Detail, explain_cases
from salad.report.facts import run_facts, training_command
from salad.report.figures import write_figures
from salad.report.history import read_history
from salad.report.page import render
from salad.report.pictures import thumbnails
from salad.report.plane import Plane, principal_plane
from salad.report.verdicts import judge, metric_rows, tiles
from salad.report.words import gallery_note, untrained_note, words
from salad.runs.aside import written_aside
from salad.runs.run_folder import FIGURES_FOLDER, REPORT_FILE, RunFolder

if TYPE_CHECKING:
    from salad.checkpoint import Checkpoint
    from salad.config import Config
    from salad.datasets.sample import Images
    from salad.evaluation.result import Result
    from salad.evaluation.summary import Summary
    from salad.scores import Standards

logger = logging.getLogger(__name__)

NEEDS = ("jinja2", "matplotlib")
MAX_POINTS = 1200  # of the map, and so small pictures
MAX_ROWS = 800  # of the memory, on the map
THUMB_SIDE = 48


def write_report(
    result: Result, summary: Summary, *, config: Config, checkpoint: Checkpoint, folder: RunFolder, command: str
) -> None:
    """Write report.html and the figures into the run folder, or say in one line why not.

    Args:
        result: of the test images.
        summary: of the same.
        config: of the scoring.
        checkpoint: what it scored with.
        folder: where to write.
        command: what was typed.

    Raises:
        InputError: a test image can no longer be read.
        StorageError: a file cannot be written.
    """
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        logger.warning("no report: it needs  pip install %s", " ".join(missing))
        return
    images = result.split.images
    assert images is not None, "they have been scored"
    threshold, note = content.start_threshold(result, summary)
    cases = choose_cases(result.labels, result.scores, threshold=threshold)
    details = explain(config, checkpoint, images, list(cases), standards=result.standards)
    page = make_page(
        result,
        summary,
        config=config,
        checkpoint=checkpoint,
        cases=cases,
        details=details,
        threshold=threshold,
        threshold_note=note,
        command=command,
        folder=folder,
    )
    path, figures = folder.path / REPORT_FILE, folder.path / FIGURES_FOLDER
    with written_aside(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    try:
        write_figures(
            figures,
            result,
            threshold=threshold,
            seed=config.seed,
            cases=cases,
            details=details,
        )
    except OSError as error:
        raise StorageError(f"{error.filename or figures}: could not be written ({error.strerror})") from None
    logger.info("report: %s", path)


def explain(
    config: Config, checkpoint: Checkpoint, images: Images, places: Sequence[int], *, standards: Standards | None
) -> list[Detail]:
    """A detail of each place; none at all where nothing can explain them, which is said."""
    from salad.explaining.explain import make_explainer
    from salad.prepare import start_network
    from salad.runs.device import choose_device

    device = choose_device(config.device)
    network = start_network(dataclasses.replace(config, compile=False), checkpoint, device)  # a few batches only
    size = {"batch_size": config.batch_size, "num_threads": config.n_jobs_dataloader}
    try:
        explainer = make_explainer(config, checkpoint, network, device, standards=standards)
        return list(explain_cases(explainer, images, places, **size))
    except InputError as error:
        logger.warning("the report goes without explanations: %s", error)
        return []


def make_page(
    result: Result,
    summary: Summary,
    *,
    config: Config,
    checkpoint: Checkpoint,
    cases: dict[int, tuple[str, ...]],
    details: Sequence[Detail],
    threshold: float,
    threshold_note: str,
    command: str,
    folder: RunFolder,
) -> str:
    """The text of report.html; see `write_report`.

    Args:
        result: of the test images.
        summary: of the same.
        config: of the scoring.
        checkpoint: what it scored with.
        cases: the groups of the images of the gallery, by place.
        details: of these, in their order; empty where nothing explains them.
        threshold: where the slider starts.
        threshold_note: why there.
        command: what was typed.
        folder: where metrics.jsonl may lie besides the folder of the checkpoint.
    """
    assert result.split.images is not None, "write_report asks"
    most = MAX_POINTS if checkpoint.embeds else 0  # besides the gallery, only the map shows images
    places = draw_others(len(result.scores), known=list(cases), most=most, seed=config.seed)
    thumbs = thumbnails(
        result.split.images,
        places,
        preprocessing=make_preprocessing(config, checkpoint.mean_image),
        most=THUMB_SIDE,
        num_threads=config.n_jobs_dataloader,
    )
    items = content.item_data(result, places, thumbs=thumbs, cases=cases)
    shown, neighbour_pictures = content.detail_data(details)
    cards = [{**item, **detail} for item, detail in zip(items, shown, strict=False)] or items[: len(cases)]
    plane = _plane(result, checkpoint, places, seed=config.seed) if checkpoint.embeds else None
    history = read_history([checkpoint.path.parent, folder.path])
    of_curves = content.curve_data(result, seed=config.seed)
    data = {
        "items": [*map(content.without_card_pictures, cards), *items[len(cards) :]],
        "pictures": neighbour_pictures,
        "threshold": content.threshold_data(result, start=threshold),
        "curves": of_curves,
        "history": content.history_data(
            history, scored_epoch=checkpoint.training.get("epoch"), embeds=checkpoint.embeds
        ),
        "map": plane and content.map_data(plane),
        "words": words(config, checkpoint, details=details, k=result.k),
    }
    return render(
        title=printable(f"{config.data_path.name or config.dataset_name}, scored by {config.net_name}"),
        subtitle=printable(f"{len(result.scores):,} test images: {result.split}"),
        tiles=tiles(summary),
        notes=judge(summary),
        rows=metric_rows(summary),
        threshold_note=threshold_note,
        has_curves=of_curves is not None,
        num_resamples=curves.NUM_RESAMPLES,
        seed=config.seed,
        has_history=history is not None,
        history_source=history and printable(history.source),
        map_caption=plane and content.map_caption(plane, num_images=len(result.scores)),
        rep_dim=config.rep_dim,
        groups=GROUPS,
        findings=sorted({name for item in cards for name in item["findings"]}),
        untrained_note=untrained_note(checkpoint),
        heats=HEATS,
        gallery_note=gallery_note(len(cases), num_images=len(result.scores), details=details),
        cards=cards,
        facts=[(name, printable(value)) for name, value in run_facts(result, config, checkpoint)],
        command=printable(command),
        trained_with=printable(training_command(checkpoint) or ""),
        data=data,
    )


def _plane(result: Result, checkpoint: Checkpoint, places: Sequence[int], *, seed: int) -> Plane:
    """The map: some test images, and some memory rows of normal images."""
    rows, labels = checkpoint.bank.rows, checkpoint.row_labels
    normal = np.arange(len(rows)) if labels is None else np.flatnonzero(labels.numpy() == NORMAL)
    if len(normal) > MAX_ROWS:
        normal = np.sort(np.random.default_rng(seed).choice(normal, MAX_ROWS, replace=False))
    return principal_plane(result.z[list(places)], rows[normal.tolist()].float().cpu().numpy())
