"""Warnings that go with every score of a model, whichever command shows it."""

from __future__ import annotations

import re
from collections.abc import Set

from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.config.parts import trained_parts
from salad.errors import printable
from salad.evaluation.few import few_to_train
from salad.scores import PATCH_SCORES, SCORES
from salad.scores.knn import DEFAULT_K
from salad.scoring.patch_memories import is_held
from salad.scoring.training_images import enrolled_in


def cautions_of(config: Config, checkpoint: Checkpoint, *, num_rows: int, k: int) -> tuple[str, ...]:
    """Collect the warnings about a checkpoint and a score, one line each.

    Args:
        config: options of the scoring.
        checkpoint: checkpoint of the model.
        num_rows: number of memory rows of normal images.
        k: number of nearest rows; 0 for scores that use none.
    """
    trained_with = checkpoint.config or {}
    unfinished = (
        [f"the model is hardly trained: {printable(checkpoint.path.name)} is from before the end of its first epoch"]
        if checkpoint.training.get("epoch") == 0 and checkpoint.trained
        else []
    )
    num_images = num_rows // max(1, int(trained_with.get("n_views", 1)))
    return (
        *_untrained(config, checkpoint.trained),
        *unfinished,
        *few_to_train(num_images),
        *_few_rows(config, k),
        *_not_enrolled(config, checkpoint),
    )


def in_brief(warning: str) -> str:
    """Shorten a warning for the line of each image: the fact alone, without its reason or bound after it."""
    return re.split(": |; ", warning)[0]


def training_cautions(config: Config, *, k: int) -> tuple[str, ...]:
    """Collect the warnings about the score that a training validates by, one line each."""
    trained = trained_parts(config.values(), net_name=config.network.net_name)
    return (*_untrained(config, trained), *_few_rows(config, k))


def _untrained(config: Config, trained: Set[str]) -> list[str]:
    """Warn of scores that depend on a part of the network that no loss has trained."""
    lines = []
    for part in config.scoring.parts:
        needs, is_own = SCORES[part].needs, not SCORES[part].uses_backbone
        if is_own and (needs not in trained if needs else not trained):
            lines.append(f"the score {part} is meaningless: no loss has trained the {needs or 'network'}")
    return lines


def _not_enrolled(config: Config, checkpoint: Checkpoint) -> list[str]:
    """Warn of patch memories that the file lacks: they are built from the training images alone."""
    number = len(enrolled_in(checkpoint))
    rebuilt = [part for part in config.scoring.parts if part in PATCH_SCORES and not is_held(part, config, checkpoint)]
    return [f"the {number} enrolled films are not in the memory of the score {part}" for part in rebuilt if number]


def _few_rows(config: Config, k: int) -> list[str]:
    """Warn of a default k that the memory is too small for."""
    if config.scoring.k is not None or not 0 < k < DEFAULT_K:
        return []
    return [f"k is {k} instead of {DEFAULT_K}: the memory has no more rows of normal images"]
