"""Patch memories of scores: built from normal training images, or read from a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad.build import RunContext
from salad.checkpoint import Checkpoint
from salad.config import OPTIONS, Config
from salad.datasets.loader import Batch
from salad.errors import InputError
from salad.networks.backbones import Backbone, load_backbone
from salad.patch_memory import PatchMemory, pool_cells
from salad.patch_rows import Neighbourhood
from salad.samples import NORMAL, Split
from salad.scores import PATCH_SCORES, SCORES
from salad.scores.inputs import Inputs
from salad.scoring.training_images import find_training_images

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)

DIGITS = 12  # of a digest in a message


def needed_backbone(context: RunContext, checkpoint: Checkpoint | None = None) -> Backbone | None:
    """Load the frozen backbone if the score uses one, else return None.

    Args:
        context: context of the run or of the scoring.
        checkpoint: checkpoint to score with; None in a training.

    Raises:
        InputError: the weights are missing, or not those that the checkpoint was made with.
    """
    scoring = context.config.scoring
    if not any(SCORES[part].uses_backbone for part in scoring.parts):
        return None
    assert scoring.backbone is not None, "ScoringOptions.parts checks it"
    size, weights = context.config.images.decoded_size, scoring.backbone_weights
    with context.team.first_alone("backbone"):  # the weights may have to be downloaded
        backbone = load_backbone(scoring.backbone, context.device, weights=weights, size=size)
    if checkpoint is not None and (checkpoint.config or {}).get("backbone") == scoring.backbone:
        check_same_weights(backbone, checkpoint)
    return backbone


def check_same_weights(backbone: Backbone | None, checkpoint: Checkpoint) -> None:
    """Raise `InputError` if a checkpoint was made with other weights of a backbone; older files do not record them."""
    held = checkpoint.training.get("backbone")
    if backbone is None or held is None or held == backbone_facts(backbone):
        return
    raise InputError(
        f"{checkpoint.path} was made with {held['name']} of the digest {held['digest'][:DIGITS]}, but the weights "
        f"found are {backbone.name} of the digest {backbone.digest[:DIGITS]}: give the file of the former as "
        "--backbone_weights"
    )


def backbone_facts(backbone: Backbone | None) -> dict[str, str] | None:
    """Collect what a checkpoint records of a backbone: its name, with the block, and the digest of its weights."""
    return None if backbone is None else {"name": backbone.name, "digest": backbone.digest}


@torch.no_grad()
def build_memory(
    part: str,
    context: RunContext,
    *,
    network: Network,
    backbone: Backbone | None,
    train: Split,
    is_announced: bool = False,
) -> PatchMemory:
    """Build a patch memory in one pass over the normal training images, without augmentation.

    Args:
        part: one of `PATCH_SCORES`.
        context: context of the run or of the scoring; each of its processes gets the same memory.
        network: network, which is put into eval mode.
        backbone: frozen network for ``backbone``.
        train: training images; abnormal ones are left out.
        is_announced: True if the size of the memory has already been logged.
    """
    network.eval()
    scoring, features_of = context.config.scoring, SCORES[part].load_features()

    def cells_of(batch: Batch) -> Tensor:
        inputs = Inputs(network, batch.grey.to(context.device, non_blocking=True), batch.preprocessing)
        return pool_cells(features_of(inputs, backbone), scoring.local_grid).features.cpu()

    def cells_of_normals() -> Iterator[Tensor]:
        for number, batch in enumerate(context.loader(train).epoch(0)):
            cells = cells_of(batch)
            if number == 0 and not is_announced:
                _announce(part, context.config, num_images=train.num_normal, num_channels=cells.shape[2])
            yield cells[[train.samples[i].label == NORMAL for i in batch.index.tolist()]]

    cells = torch.cat(context.team.joined(list(cells_of_normals()))).to(context.device)
    neighbourhood = Neighbourhood(*SCORES[part].neighbourhood)
    return PatchMemory.build(cells, max_rows=scoring.local_rows, neighbourhood=neighbourhood)


def _announce(part: str, config: Config, *, num_images: int, num_channels: int) -> None:
    """Log the size of a memory before it is built."""
    grid, max_rows = config.scoring.local_grid, config.scoring.local_rows
    num_bytes = PatchMemory.bytes_for(num_images, grid=grid, num_channels=num_channels, max_rows=max_rows)
    text = "patch memory of the score %s: %d x %d grid cells, %s rows each, %s MiB"
    logger.info(text, part, grid, grid, f"{min(num_images, max_rows):,}", f"{num_bytes / 2**20:,.1f}")


def find_memories(
    context: RunContext, checkpoint: Checkpoint, *, network: Network, backbone: Backbone | None
) -> dict[str, PatchMemory]:
    """Take the patch memories of a score from the checkpoint, or build them from the training images.

    Args:
        context: context of the scoring.
        checkpoint: checkpoint to score with.
        network: trained network, on the device.
        backbone: backbone of `needed_backbone`.

    Returns:
        Patch memories by name of the score, on the device.

    Raises:
        InputError: the checkpoint lacks a memory, and DATA_PATH does not hold its training images.
    """
    config = context.config
    needed = [part for part in config.scoring.parts if part in PATCH_SCORES]
    memories = {
        part: checkpoint.memories[part].to(context.device) for part in needed if is_held(part, config, checkpoint)
    }
    missing = [part for part in needed if part not in memories]
    if not missing:
        return memories
    try:
        train = find_training_images(context, checkpoint)
    except InputError as error:
        asked = f"--score {config.scoring.score}"
        raise InputError(
            f"{asked} needs a patch memory, but {checkpoint.path} holds none with these options, and it cannot be "
            f"built: {error}; train with {asked}, or set DATA_PATH to the training images"
        ) from None
    for part in missing:
        memories[part] = build_memory(part, context, network=network, backbone=backbone, train=train)
    return memories


def is_held(part: str, config: Config, checkpoint: Checkpoint) -> bool:
    """Check if a checkpoint holds the patch memory of a score with the settings of the config."""
    return part in checkpoint.memories and has_settings(part, config, checkpoint)


def has_settings(part: str, config: Config, checkpoint: Checkpoint) -> bool:
    """Check if the checkpoint has the same settings of a score as the config."""
    saved, values = checkpoint.config or {}, config.values()
    return all(name in saved and OPTIONS[name].from_json(saved[name]) == values[name] for name in SCORES[part].settings)
