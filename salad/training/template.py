"""The mean normal image of a training, to whose framing all images are brought."""

from __future__ import annotations

import dataclasses
import logging

import torch
from torch import Tensor

from salad.build import make_loader
from salad.config import Config
from salad.distributed.team import SOLO, Team
from salad.images.align import find_mean, shrink
from salad.samples import NORMAL, Split

logger = logging.getLogger(__name__)

MOST = 1000  # images that it is made of


def find_mean_image(config: Config, train: Split, device: torch.device, *, team: Team = SOLO) -> Tensor | None:
    """The mean of normal training images, the same for a seed and for all processes; None without --align.

    Args:
        config: with a drawn seed.
        train: the images to train on.
        device: to compute on.
        team: the processes that train together.

    Raises:
        InputError: a file cannot be read.
    """
    return team.from_first(lambda: _find(config, train, device)) if config.align else None


def _find(config: Config, train: Split, device: torch.device) -> Tensor:
    labels, parts, num_images = torch.tensor(train.labels), [], 0
    as_decoded = dataclasses.replace(config, align=False)
    for batch in make_loader(as_decoded, train, device, seed=config.seed).epoch(0):
        if num_images >= MOST:
            break
        normal = batch.grey[labels[batch.index] == NORMAL]
        num_images += len(normal)
        parts += [shrink(normal.to(device))] if len(normal) else []
    images = torch.cat(parts)[:MOST]
    logger.info("images are aligned to the mean of %d normal ones", len(images))
    return find_mean(images).cpu()
