"""Write report.html and the folder of figures."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from importlib.util import find_spec

from salad.errors import InputError, StorageError
from salad.report import content
from salad.report.cases import choose_cases
from salad.report.compose import Gallery, Scoring, make_page
from salad.report.details import Detail, explain_cases
from salad.report.figures import write_figures
from salad.runs.atomic import atomic_file
from salad.runs.folder import FIGURES_FOLDER, REPORT_FILE

logger = logging.getLogger(__name__)

NEEDS = ("jinja2", "matplotlib")


def write_report(scoring: Scoring) -> None:
    """Write report.html and the figures into the run folder; warn where packages for it are missing.

    Args:
        scoring: scored test images to report on.

    Raises:
        InputError: a test image can no longer be read.
        StorageError: a file cannot be written.
    """
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        logger.warning("no report: it needs  pip install %s", " ".join(missing))
        return
    result, config = scoring.result, scoring.config
    threshold, note = content.start_threshold(result, scoring.summary)
    cases = choose_cases(result.labels, result.scores, threshold=threshold)
    details = explain(scoring, list(cases))
    page = make_page(scoring, Gallery(cases=cases, details=details, threshold=threshold, threshold_note=note))
    path, figures = scoring.folder.path / REPORT_FILE, scoring.folder.path / FIGURES_FOLDER
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    try:
        write_figures(figures, result, threshold=threshold, seed=config.run.seed, cases=cases, details=details)
    except OSError as error:
        raise StorageError(f"{error.filename or figures}: could not be written ({error.strerror})") from None
    logger.info("report: %s", path)


def explain(scoring: Scoring, places: Sequence[int]) -> list[Detail]:
    """Explain the test images with these indices; where that fails, log a warning and return an empty list."""
    from torch import compiler

    from salad.explaining.make import make_explainer

    config = scoring.config
    size = {"batch_size": config.data.batch_size, "num_threads": config.data.n_jobs_dataloader}
    # eager: a few batches are not worth compiling for, and the import of torch's compiler alone takes a second
    stance = compiler.set_stance("force_eager") if config.run.compile else contextlib.nullcontext()
    try:
        with stance:
            explainer = make_explainer(scoring.model, scoring.checkpoint)
            return list(explain_cases(explainer, scoring.result.split, places, **size))
    except InputError as error:
        logger.warning("the report has no explanations: %s", error)
        return []
