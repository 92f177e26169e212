"""Write the captions, notes and facts of the page."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import torch

import salad
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.evaluation.result import Result
from salad.input_files import parse_json, read_input
from salad.report.content import heat_kind
from salad.report.details import Detail
from salad.runs.folder import CONFIG_FILE
from salad.scores import PATCH_SCORES
from salad.scoring.fine_maps import part_of

RESEARCH_ONLY = "For research only; not a medical device."
MAP_NOTES = {
    "score": "what is less like normal images than anything in most of them, in colour and outlined",
    "memory": "patches whose features differ from those of the nearest normal images, in colour",
    "error": "the reconstruction error, in colour",
}


def words(config: Config, checkpoint: Checkpoint, *, details: Sequence[Detail], k: int | None) -> dict[str, Any]:
    """Write the texts of the detail view.

    Args:
        config: of the scoring.
        checkpoint: of the model.
        details: of the gallery; empty where nothing could be explained.
        k: number of nearest rows behind the score; None for scores that use no rows.

    Returns:
        ``titles`` of the pictures in the order in which they are shown, ``far``, the caption of the neighbours, and
        ``no_neighbours``, the caption where there are none.
    """
    parts = [part for part in config.scoring.parts if part in PATCH_SCORES]
    scales = details[0].scales if details else {}
    return {
        "titles": {
            "input": "Whole film" if parts else "Image, as the network sees it",
            "recon": "Reconstruction",
            "error": f"Reconstruction error; {scales.get('error', '')}",
            "score": f"Unlike normal images ({part_of(tuple(parts))}), in SD; {scales.get('score', '')}",
            "memory": f"Distance to the nearest normal images, patch by patch; {scales.get('memory', '')}",
        },
        "far": _far(config, parts=parts, k=k),
        "no_neighbours": _no_neighbours(checkpoint, parts=parts, is_explained=bool(details)),
    }


def _far(config: Config, *, parts: Sequence[str], k: int | None) -> str:
    if parts:
        which = f" (mean of its parts {' and '.join(parts)})" if config.scoring.is_fused else ""
        return f"Distance of the patch features to those of this image alone, on the scale of the score{which}."
    angle = "Angle between the embeddings, as a fraction of π: 0 for the same direction, 0.5 for orthogonal ones."
    return angle + (
        f" The score is the mean angle to the {k} nearest memory rows." if config.scoring.score == "knn" else ""
    )


def _no_neighbours(checkpoint: Checkpoint, *, parts: Sequence[str], is_explained: bool) -> str:
    if is_explained and parts:
        said = "No neighbours: with more images than --local_rows, each grid cell of the patch memory"
        return f"{said} keeps patches of different images."
    if is_explained and not checkpoint.embeds:
        return "No neighbours: no loss has trained the embeddings of this network."
    return "No explanation: maps and neighbours could not be computed; the log has the reason."


def gallery_note(num_cases: int, *, num_images: int, details: Sequence[Detail]) -> str:
    """Write how the images of the gallery were chosen, and what its cards show."""
    how = (
        f"{num_cases} of {num_images:,} images: the largest and smallest scores, typical hits and normals, and the "
        "worst misses and false alarms at the initial threshold."
    )
    kind = heat_kind(details[0].pictures) if details else None
    return how if kind is None else f"{how} Right of each image: {MAP_NOTES[kind]}. Click a card for details."


FROZEN_MAP = (
    "The maps are those of a frozen network, which no loss has trained: measured on films with marks of experts, they "
    "point at findings no better than chance. Trust the score alone."
)  # docs/quality.md


def untrained_note(checkpoint: Checkpoint, *, has_map: bool) -> str | None:
    """Name what the page leaves out or shows without a meaning because no loss has trained it; None without either.

    Args:
        checkpoint: checkpoint of the page.
        has_map: whether the page maps patch features instead of embeddings.
    """
    if not checkpoint.trained:
        return FROZEN_MAP
    absent = [] if checkpoint.reconstructs else ["reconstructions and error maps"]
    absent += [] if checkpoint.embeds or has_map else ["the map of embeddings"]
    if not absent:
        return None
    return f"Left out, because no loss has trained this network for them: {', '.join(absent)}."


def network_name(config: Config, checkpoint: Checkpoint) -> str:
    """Name the network that scores: the trained one, or the frozen backbone of a run without training."""
    return config.network.net_name if checkpoint.trained else str(config.scoring.backbone)


def run_facts(result: Result, config: Config, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Collect names and values for the section Run, in the order shown; nothing in it names or counts patients."""
    split = result.split
    num_images = len(split.samples)
    return [
        ("Data set", f"{config.data.dataset_name}, {config.data.data_path}"),
        ("Test images", f"{num_images:,}: {split}" + (f"; {len(split.skipped)} skipped" if split.skipped else "")),
        *model_facts(config, checkpoint, k=result.k),
        *([("Drift", result.drift.brief)] if result.drift else []),
        ("Seed", str(config.run.seed)),
        ("Scored in", f"{result.seconds:.1f} s ({num_images / max(result.seconds, 1e-9):.1f} images/s)"),
        *version_facts(),
    ]


def model_facts(config: Config, checkpoint: Checkpoint, *, k: int | None) -> list[tuple[str, str]]:
    """Collect names and values that tell the model and its score.

    Args:
        config: of the scoring.
        checkpoint: of the model.
        k: number of nearest rows behind the score; None for scores that use no rows.
    """
    training, parts = checkpoint.training, config.scoring.parts
    score = f"{config.scoring.score} of {', '.join(parts)}" if config.scoring.is_fused else config.scoring.score
    score += f", k = {k}; {len(checkpoint.bank.rows):,} memory rows" if k else ""
    score += (
        ""
        if set(PATCH_SCORES).isdisjoint(config.scoring.parts)
        else f", {config.scoring.local_grid} x {config.scoring.local_grid} grid cells"
    )
    size = f"{config.images.size} x {config.images.size} px"
    facts = [
        ("Checkpoint", str(checkpoint.path)),
        (
            "Network",
            f"{network_name(config, checkpoint)}, {size}"
            + (f", embeddings of {config.network.rep_dim} dimensions" if checkpoint.embeds else ""),
        ),
        ("Grey levels", f"{config.images.normalize}, {config.images.resize}{_framing(config)}"),
        ("Score", score),
    ]
    if "epoch" in training and checkpoint.trained:
        stage = "pre-training" if training.get("round", 0) < 0 else f"round {training.get('round')}"
        facts.insert(1, ("Trained to", f"epoch {training['epoch']}, {stage}"))
    return facts


def version_facts() -> list[tuple[str, str]]:
    """Collect the versions of the program and its libraries, and the time."""
    return [
        ("Versions", f"salad {salad.__version__}, torch {torch.__version__}, Python {platform.python_version()}"),
        ("Written", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
    ]


def _framing(config: Config) -> str:
    steps = {
        "trimmed": config.images.trim,
        "aligned": config.images.align,
        f"central {100 * config.images.crop:.3g} %": config.images.crop < 1,
    }
    return "".join(f", {step}" for step, is_on in steps.items() if is_on)


def training_command(checkpoint: Checkpoint) -> str | None:
    """Read the command line of the training from the config.json next to the checkpoint; None without one."""
    command = training_record(checkpoint).get("command")
    return f"python {command}" if isinstance(command, str) else None


def training_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read what the config.json next to the checkpoint tells about the training; empty without one."""
    try:
        content: Any = parse_json(read_input(checkpoint.path.parent / CONFIG_FILE))
        record = content["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return record if isinstance(record, dict) else {}
