"""What was run, on what, and how."""

from __future__ import annotations

import json
import platform
from datetime import datetime, timezone
from typing import Any

import torch

import salad
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.evaluation.result import Result
from salad.runs.run_folder import CONFIG_FILE
from salad.scores import LOCAL


def run_facts(result: Result, config: Config, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are shown; patients and their number are no part of it."""
    split, training = result.split, checkpoint.training
    num_images = len(split.samples)
    score = f"{config.score} of {', '.join(result.parts)}" if result.parts else config.score
    score += "" if result.k is None else f", k = {result.k}; {len(checkpoint.bank.rows):,} memory rows"
    score += "" if LOCAL.isdisjoint(config.parts) else f", {config.local_grid} x {config.local_grid} places"
    size = f"{config.image_size} x {config.image_size} px"
    facts = [
        ("Data set", f"{config.dataset_name}, {config.data_path}"),
        ("Test images", f"{num_images:,}: {split}" + (f"; {len(split.skipped)} skipped" if split.skipped else "")),
        ("Checkpoint", str(checkpoint.path)),
        ("Network", f"{config.net_name}, {size}" + (f", embeddings of {config.rep_dim}" if checkpoint.embeds else "")),
        ("Grey levels", f"{config.normalize}, {config.resize}{_framing(config)}"),
        ("Score", score),
        ("Seed", str(config.seed)),
        ("Scored in", f"{result.seconds:.1f} s ({num_images / max(result.seconds, 1e-9):.1f} images/s)"),
        ("Versions", f"salad {salad.__version__}, torch {torch.__version__}, Python {platform.python_version()}"),
        ("Written", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    if "epoch" in training:
        place = "pre-training" if training.get("round", 0) < 0 else f"round {training.get('round')}"
        facts.insert(3, ("Trained to", f"epoch {training['epoch']}, {place}"))
    return facts


def _framing(config: Config) -> str:
    words = {"trimmed": config.trim, "aligned": config.align, f"central {100 * config.crop:.3g} %": config.crop < 1}
    return "".join(f", {word}" for word, holds in words.items() if holds)


def training_command(checkpoint: Checkpoint) -> str | None:
    """The command line of the training, from the config.json beside the checkpoint; None where it is not there."""
    try:
        content: Any = json.loads((checkpoint.path.parent / CONFIG_FILE).read_text(encoding="utf-8"))
        command = content["run"]["command"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return f"python {command}" if isinstance(command, str) else None
