"""Template of a training: the mean normal image, to which all images are registered."""

from __future__ import annotations

import dataclasses
import logging

import torch
from torch import Tensor

from salad.build import RunContext
from salad.distributed.team import SOLO
from salad.images.align import build_template, shrink
from salad.samples import NORMAL, Split

logger = logging.getLogger(__name__)

MAX_IMAGES = 1000  # of which the mean is taken


def make_template(context: RunContext, train: Split) -> Tensor | None:
    """Make the template from normal training images, the same in all processes; None without --align.

    Args:
        context: context of the run, with a drawn seed, which chooses the images.
        train: images to train on.

    Returns:
        Template, (1, 1, SIDE, SIDE), on the CPU.

    Raises:
        InputError: a file cannot be read.
    """
    return context.team.from_first(lambda: _make(context, train)) if context.config.images.align else None


def _make(context: RunContext, train: Split) -> Tensor:
    """Make the template in one process."""
    labels, parts, num_images = torch.tensor(train.labels), [], 0
    alone = dataclasses.replace(context, config=context.config.changed(align=False), team=SOLO)
    for batch in alone.loader(train, seed=context.config.run.seed).epoch(0):
        if num_images >= MAX_IMAGES:
            break
        normal = batch.grey[labels[batch.index] == NORMAL]
        num_images += len(normal)
        parts += [shrink(normal.to(context.device))] if len(normal) else []
    images = torch.cat(parts)[:MAX_IMAGES]
    logger.info("template to register images to: the mean of %s normal training images", f"{len(images):,}")
    return build_template(images).cpu()
