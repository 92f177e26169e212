"""Write model_card.md beside metrics.json: what a model is for, what it was made of, and how well it was measured."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salad.checks.screen import describe_split
from salad.config import describe_changes
from salad.datasets import DATASETS
from salad.datasets.more_normals import describe_kinds
from salad.errors import InputError, printable
from salad.report.captions import FROZEN_MAP, RESEARCH_ONLY, network_name, run_facts, training_record
from salad.report.table import UNDEFINED, Row, judge, located_rows, metric_rows
from salad.runs.atomic import atomic_file
from salad.runs.folder import CARD_FILE, CARD_MARK, METRICS_FILE, is_own_card, read_metrics

if TYPE_CHECKING:
    from salad.report.compose import Scoring

logger = logging.getLogger(__name__)

UNKNOWN = "not known to the program"
OF_MODEL = (
    "Trained to",
    "Network",
    "Grey levels",
    "Score",
    "Seed",
    "Versions",
)  # facts of the report that the card has
SUBGROUPS = ("finding", "view", "sex", "age")
USE = """Ranks radiographs by how unlike the normal films of its training they are, so that people look at unusual ones
first, and compares methods of anomaly detection. It names no disease and does not rule one out."""
LIMITS = (
    "A score is no probability: it orders films of the kind that the model was trained on and calibrated with.",
    "Films of other ages, views, devices or hospitals may score high without being abnormal. Measure on films of your "
    "own before you trust threshold and percentiles, and calibrate or enrol where they drift.",
    "What looks normal to the model is not thereby healthy: see the sensitivity, and the AUC by finding.",
    "The numbers hold for the test images above and nothing else.",
)


def write_card(scoring: Scoring) -> None:
    """Write model_card.md into the run folder; a file of that name that is the user's own is kept, with a warning.

    Raises:
        StorageError: the file cannot be written.
    """
    path = scoring.folder.path / CARD_FILE
    if path.exists() and not is_own_card(path):
        logger.warning("%s: is not by test.py, so it is kept, and no model card is written; rename it", path)
        return
    with atomic_file(path) as temporary:
        temporary.write_text(make_card(scoring), encoding="utf-8")
    logger.info("model card: %s", path)


def make_card(scoring: Scoring) -> str:
    """Compose the text of model_card.md."""
    config, summary, located = scoring.config, scoring.summary, scoring.located
    rows = [*metric_rows(summary), *(located_rows(located) if located else ())]
    measured = [row for row in rows if row.value != UNDEFINED or row.kind == "subgroup"]
    title = f"{network_name(config, scoring.checkpoint)} for {config.data.dataset_name}"
    sections = {
        "Intended use": [" ".join(USE.split()), RESEARCH_ONLY],
        "Model": [_listed(_model_facts(scoring))],
        "Data": [_listed(_data_facts(scoring))],
        "Results on the test images": [
            _table(measured) if measured else "",
            _bullets(note.text for note in judge(summary)),
        ],
        "Warnings": [_bullets(scoring.result.warnings) or "None."],
        "Not measured": [_bullets(_not_measured(scoring)) or "All that test.py measures was measured."],
        "Limits": [_bullets([*LIMITS, *(() if scoring.checkpoint.trained else (FROZEN_MAP,))])],
        "How to score with it": [_command(scoring.checkpoint.path)],
    }
    head = [
        CARD_MARK,
        f"# Model card: {escaped(title)}",
        "By test.py; its next scoring into this folder replaces it. " + KEEP,
    ]
    blocks = [*head, *(block for name, texts in sections.items() for block in (f"## {name}", *filter(None, texts)))]
    return "\n\n".join(blocks) + "\n"


KEEP = "Write notes of your own into another file, or delete the first line of this one, and it is left as it is."


def escaped(text: object) -> str:
    """Escape a text for one line of Markdown, so that nothing in it formats, links, makes HTML or ends a cell."""
    return re.sub(r"([\\`*_\[\]<>|~&#]|:(?=//))", r"\\\1", printable(text))


def _model_facts(scoring: Scoring) -> dict[str, str]:
    """Collect what the model is, by name of the fact."""
    checkpoint, values = scoring.checkpoint, scoring.checkpoint.config
    facts = dict(run_facts(scoring.result, scoring.config, checkpoint))
    options = UNKNOWN if values is None else describe_changes(values)
    return {
        "File": f"{checkpoint.path.name} (digest {checkpoint.digest()})",
        **{name: facts[name] for name in OF_MODEL if name in facts},
        "Options that differ from the defaults": options,
        "Training time": _training_time(checkpoint.path.parent / METRICS_FILE),
        "Card written": facts["Written"],
    }


def _training_time(path: Path) -> str:
    """Add up the seconds of the epochs in a metrics.jsonl."""
    try:
        seconds = [epoch["seconds"] for epoch in read_metrics(path)]
        return f"{sum(seconds):,.0f} s in {len(seconds):,} epochs"
    except (InputError, KeyError, TypeError):  # no training, a file of another release, or none
        return UNKNOWN


def _data_facts(scoring: Scoring) -> dict[str, str]:
    """Collect what the model was trained, calibrated and tested with, by name of the fact; paths are left out."""
    result, record = scoring.result, training_record(scoring.checkpoint)
    described = record.get("images")
    trained_with: Mapping[str, Any] = described if isinstance(described, dict) else {}
    calibration, name = result.calibration, scoring.config.data.dataset_name
    return {
        "Data set": name,
        "Licence of the images": DATASETS[name].licence or f"{UNKNOWN}: see where they come from",
        "Training images": str(trained_with.get("train", UNKNOWN)),
        "Validation images": str(trained_with.get("val", UNKNOWN)),
        "Normal images of the memory": describe_kinds(scoring.model.kinds) or UNKNOWN,
        "Normal images behind threshold and percentiles": f"{len(calibration.scores):,}" if calibration else "none",
        "Test images": describe_split(result.split)
        + (f"; {len(skipped):,} cannot be read" if (skipped := result.split.skipped) else ""),
        "Drift": "; ".join(result.drift.lines) if result.drift else "not compared",
    }


def _not_measured(scoring: Scoring) -> list[str]:
    """List what the test could not measure, with the reason."""
    summary, result = scoring.summary, scoring.result
    missing = []
    if result.auc is None:
        absent = "abnormal" if result.split.num_normal else "normal"
        missing.append(f"AUC, average precision and operating points: the test holds no {absent} image")
    if summary.decision is None:
        missing.append("Threshold, percentiles and their rates: no, or too few, normal images were held out for them")
    if absent_kinds := [kind for kind in SUBGROUPS if kind not in summary.subgroups]:
        missing.append(f"By {', '.join(absent_kinds)}: the data set tells none, or only one")
    if scoring.located is None:
        missing.append("Localisation: no map could be compared with marks of experts")
    if result.drift is None or not result.drift.is_measured:
        missing.append("Drift: the model does not tell how the films of its calibration look")
    return missing


def _command(model: Path) -> str:
    """Write the commands that score new films with the model."""
    words = ["python", "-m", "salad", "predict", "--load_model", printable(model.name), "FOLDER_OF_FILMS"]
    return f"```bash\n{shlex.join(words)}\n```"


def _listed(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}:** {escaped(value)}" for name, value in facts.items())


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def _table(rows: Iterable[Row]) -> str:
    """Write rows of the table of metrics as a table of Markdown."""
    cells: list[tuple[str, ...]] = [("Metric", "Value", "95 % interval", "Note"), ("---", "---:", "---", "---")]
    cells += [tuple(map(escaped, (row.name, row.value, row.interval, row.note))) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
