"""The local memories that scores need: built from training normals, or found in a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad.build import make_loader
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.config.declare import value_from_json
from salad.datasets.loader import Batch, Loader
from salad.distributed.team import SOLO, Team
from salad.errors import InputError
from salad.networks.backbones import Backbone, load_backbone
from salad.patch_memory import LocalMemory, pool_cells
from salad.samples import NORMAL, Split
from salad.scoring.scores import LOCAL, Inputs, local_maps
from salad.scoring.training_images import find_training_images

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)

SETTINGS = {"local": ("local_grid", "local_rows"), "backbone": ("local_grid", "local_rows", "backbone")}


def needed_backbone(config: Config, device: torch.device, *, team: Team = SOLO) -> Backbone | None:
    """The frozen network that the score needs, if it needs one.

    Raises:
        InputError: its weights are not there.
    """
    if "backbone" not in config.parts:
        return None
    assert config.backbone is not None, "parts has looked"
    with team.first_alone("backbone"):  # its weights may have to be fetched
        return load_backbone(config.backbone, device)


@torch.no_grad()
def build_memory(
    part: str,
    *,
    config: Config,
    network: Network,
    backbone: Backbone | None,
    train: Split,
    loader: Loader,
    device: torch.device,
    team: Team = SOLO,
    is_announced: bool = False,
) -> LocalMemory:
    """A local memory from one pass over the training normals, without augmentation.

    Args:
        part: ``local`` or ``backbone``.
        config: of the run or of the scoring.
        network: put into eval mode.
        backbone: for ``backbone``.
        train: the training images; abnormal ones are left out.
        loader: over the same images, in their order.
        device: where the networks lie.
        team: the processes that share the images; each gets the same memory.
        is_announced: whether the log tells its size already.
    """
    network.eval()
    grid, max_rows = config.local_grid, config.local_rows

    def cells_of(batch: Batch) -> Tensor:
        inputs = Inputs(network, batch.grey.to(device, non_blocking=True), batch.preprocessing)
        return pool_cells(local_maps(part, inputs, backbone), grid).features.cpu()

    def parts() -> Iterator[Tensor]:
        for number, batch in enumerate(loader.epoch(0)):
            cells = cells_of(batch)
            if number == 0 and not is_announced:
                _announce(part, config, num_images=train.num_normal, num_channels=cells.shape[2])
            yield cells[[train.samples[i].label == NORMAL for i in batch.index.tolist()]]

    cells = torch.cat(team.joined(list(parts()))).to(device)
    return LocalMemory.build(cells, max_rows=max_rows)


def _announce(part: str, config: Config, *, num_images: int, num_channels: int) -> None:
    """Say how large a memory will be."""
    grid, max_rows = config.local_grid, config.local_rows
    num_bytes = LocalMemory.bytes_for(num_images, grid=grid, num_channels=num_channels, max_rows=max_rows)
    text = "memory of the score %s: %d x %d places, %d rows each, %s bytes"
    logger.info(text, part, grid, grid, min(num_images, max_rows), f"{num_bytes:,}")


def find_memories(
    config: Config,
    checkpoint: Checkpoint,
    network: Network,
    *,
    backbone: Backbone | None,
    device: torch.device,
    team: Team = SOLO,
) -> dict[str, LocalMemory]:
    """The local memories that a score needs, on the device: those of the checkpoint, else from the training images.

    Args:
        config: of the scoring.
        checkpoint: what it scores with.
        network: with its weights, on the device.
        backbone: of `needed_backbone`.
        device: to compute on.
        team: the processes that share the images.

    Raises:
        InputError: the checkpoint holds no such memory, and DATA_PATH not the images that it was trained on.
    """
    wanted = [part for part in config.parts if part in LOCAL]
    found = {part: checkpoint.memories[part].to(device) for part in wanted if is_held(part, config, checkpoint)}
    missing = [part for part in wanted if part not in found]
    if not missing:
        return found
    try:
        train = find_training_images(config, checkpoint)
    except InputError as error:
        raise InputError(
            f"--score {config.score} needs a memory of local features, which {checkpoint.path} does not hold as it is "
            f"asked for, and it cannot be made: {error}; train with --score {config.score}, or give DATA_PATH the "
            "training images"
        ) from None
    loader = make_loader(config, train, device, mean_image=checkpoint.mean_image, team=team)
    for part in missing:
        found[part] = build_memory(
            part,
            config=config,
            network=network,
            backbone=backbone,
            train=train,
            loader=loader,
            device=device,
            team=team,
        )
    return found


def is_held(part: str, config: Config, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint holds the local memory of a part as the options want it."""
    return part in checkpoint.memories and has_settings(part, config, checkpoint)


def has_settings(part: str, config: Config, checkpoint: Checkpoint) -> bool:
    """Whether the options that a part depends on are those of the checkpoint."""
    had = checkpoint.config or {}
    return all(
        name in had and value_from_json(Config, name, had[name]) == getattr(config, name)
        for name in SETTINGS.get(part, ())
    )
