"""Sentences about what is shown of each image."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import torch

import salad
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.evaluation.result import Result
from salad.report.content import heat_kind
from salad.report.details import Detail
from salad.runs.folder import CONFIG_FILE
from salad.scores import PATCH_SCORES

WHERE = {
    "score": "where it is farther from normal images than these are from each other, by the score's own local features",
    "memory": "where its local features are unlike those of the nearest normal images",
    "error": "where the reconstruction errs",
}


def words(config: Config, checkpoint: Checkpoint, *, details: Sequence[Detail], k: int | None) -> dict[str, Any]:
    """Sentences of the detail view: ``titles`` of its pictures in their order, what is said of the neighbours."""
    parts = [part for part in config.scoring.parts if part in PATCH_SCORES]
    scales = details[0].scales if details else {}
    sees = "backbone" if parts == ["backbone"] else "network"
    return {
        "titles": {
            "input": f"Image, as the {sees} sees it",
            "recon": "Reconstruction",
            "error": f"Reconstruction error; {scales.get('error', '')}",
            "score": f"Unlike normal images, place by place ({' and '.join(parts)}); {scales.get('score', '')}",
            "memory": f"Unlike the nearest normal images, place by place; {scales.get('memory', '')}",
        },
        "far": _far(config, parts=parts, k=k),
        "no_neighbours": _no_neighbours(checkpoint, parts=parts, is_explained=bool(details)),
    }


def _far(config: Config, *, parts: Sequence[str], k: int | None) -> str:
    if parts:
        which = f", of its parts {' and '.join(parts)}" if config.scoring.is_fused else ""
        return f"The score{which}, that the image would have if that one were the only normal image."
    angle = "Angles between embeddings, as shares of π: 0 is the same direction, 0.5 unrelated."
    return angle + (
        f" The score is the mean angle to the {k} nearest memory rows." if config.scoring.score == "knn" else ""
    )


def _no_neighbours(checkpoint: Checkpoint, *, parts: Sequence[str], is_explained: bool) -> str:
    if is_explained and parts:
        return "No neighbours: of more images than --local_rows, the local memory holds other ones at every place."
    if is_explained and not checkpoint.embeds:
        return "No neighbours: no loss has trained the embeddings of this network."
    return "No explanation: the model's maps and neighbours could not be made; the log says why."


def gallery_note(num_cases: int, *, num_images: int, details: Sequence[Detail]) -> str:
    """How its images were picked, and what the cards show."""
    how = (
        f"{num_cases} of {num_images:,} images: both ends of the scores, and the worst mistakes of the threshold "
        "that the slider starts at."
    )
    kind = heat_kind(details[0].pictures) if details else None
    return how if kind is None else f"{how} Right of each image: {WHERE[kind]}. A click opens its details."


def untrained_note(checkpoint: Checkpoint) -> str | None:
    """What the page leaves out because no loss has trained it."""
    absent = [] if checkpoint.reconstructs else ["reconstructions and error maps"]
    absent += [] if checkpoint.embeds else ["a map of embeddings"]
    if not absent:
        return None
    return f"Left out, for no loss has trained this network for them: {', '.join(absent)}."


def run_facts(result: Result, config: Config, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are shown; patients and their number are no part of it."""
    split, training = result.split, checkpoint.training
    num_images = len(split.samples)
    score = f"{config.scoring.score} of {', '.join(result.parts)}" if result.parts else config.scoring.score
    score += "" if result.k is None else f", k = {result.k}; {len(checkpoint.bank.rows):,} memory rows"
    score += (
        ""
        if set(PATCH_SCORES).isdisjoint(config.scoring.parts)
        else f", {config.scoring.local_grid} x {config.scoring.local_grid} places"
    )
    size = f"{config.images.size} x {config.images.size} px"
    facts = [
        ("Data set", f"{config.data.dataset_name}, {config.data.data_path}"),
        ("Test images", f"{num_images:,}: {split}" + (f"; {len(split.skipped)} skipped" if split.skipped else "")),
        ("Checkpoint", str(checkpoint.path)),
        (
            "Network",
            f"{config.network.net_name}, {size}"
            + (f", embeddings of {config.network.rep_dim}" if checkpoint.embeds else ""),
        ),
        ("Grey levels", f"{config.images.normalize}, {config.images.resize}{_framing(config)}"),
        ("Score", score),
        ("Seed", str(config.run.seed)),
        ("Scored in", f"{result.seconds:.1f} s ({num_images / max(result.seconds, 1e-9):.1f} images/s)"),
        ("Versions", f"salad {salad.__version__}, torch {torch.__version__}, Python {platform.python_version()}"),
        ("Written", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    if "epoch" in training:
        place = "pre-training" if training.get("round", 0) < 0 else f"round {training.get('round')}"
        facts.insert(3, ("Trained to", f"epoch {training['epoch']}, {place}"))
    return facts


def _framing(config: Config) -> str:
    words = {
        "trimmed": config.images.trim,
        "aligned": config.images.align,
        f"central {100 * config.images.crop:.3g} %": config.images.crop < 1,
    }
    return "".join(f", {word}" for word, holds in words.items() if holds)


def training_command(checkpoint: Checkpoint) -> str | None:
    """The command line of the training, from the config.json beside the checkpoint; None where it is not there."""
    try:
        content: Any = json.loads((checkpoint.path.parent / CONFIG_FILE).read_text(encoding="utf-8"))
        command = content["run"]["command"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return f"python {command}" if isinstance(command, str) else None
