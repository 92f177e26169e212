"""Fine maps of where an image is unlike normal ones, and the value that the maps of normal images stay below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from salad.checkpoint import MAP, Checkpoint
from salad.evaluation.calibration import Calibration
from salad.networks.anomaly_head import AnomalyHead
from salad.networks.backbones import Backbone
from salad.patch_memory import PatchMemory, pool_cells
from salad.samples import NORMAL, Split
from salad.scores import SCORES
from salad.scores.inputs import Inputs
from salad.scoring.patch_memories import has_settings

if TYPE_CHECKING:
    from salad.scoring.model import ScoringModel

GRID = 16  # cells along a side: each has 8 pixels of an image of 128
NUM_MEASURED, NUM_ROWS, NUM_AXES = 256, 64, 32  # normal images measured, and rows and axes that are kept of them
LEAST, MOST = 10, 500  # normal images that set the scale and the threshold
WEIGHTS = {"distance": 1, "head": 2}  # of the sources of a map: with these it points best (docs/quality.md)
SEEN = 0.5  # share of a pixel that has to lie inside the image
PARTS = ("local", "backbone")  # scores that a map can be of, the first that a model has

Levels = Mapping[str, tuple[float, float]]  # mean and standard deviation over the cells of normal images, by source


def combine(sources: Mapping[str, Tensor]) -> Tensor:
    """Combine the sources of a map to its values.

    Args:
        sources: ``distance`` to normal images and, of a network with an anomaly head, ``head``, its logits, (B, G, G)
            each, in standard deviations above the cells of normal images.

    Returns:
        Values, (B, G, G), at least 0; larger is more anomalous. On fine grids they are means over 3 x 3 cells, because
        a single cell is often a rib or a vessel.
    """
    total = sum(WEIGHTS[name] for name in sources)
    values = torch.stack([WEIGHTS[name] / total * grid for name, grid in sources.items()]).sum(dim=0)
    if values.shape[-1] >= GRID:
        padded = F.pad(values[:, None], (1, 1, 1, 1), mode="replicate")
        values = F.avg_pool2d(padded, 3, stride=1)[:, 0]
    return values.clamp(min=0)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Memory, head and features that the map of a model is computed from.

    Attributes:
        part: score whose patch features are compared, one of `PARTS`.
        memory: patch features of normal images.
        head: anomaly head of the network; None without one, and for features of a frozen backbone.
        backbone: frozen network of the score ``backbone``; None for other features.
    """

    part: str
    memory: PatchMemory
    head: AnomalyHead | None
    backbone: Backbone | None

    @torch.no_grad()
    def read(self, inputs: Inputs) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the sources of a batch.

        Returns:
            The sources by name on the finest of their grids, (B, G, G) each, and True at the pixels that lie inside
            the images, (B, S, S).
        """
        features = SCORES[self.part].load_features()(inputs, self.backbone)
        grids = {"distance": self.memory.distances(features)}
        if self.head is not None:
            grids["head"] = self.head.places(features.features)[:, 0].float()
        size = max(grid.shape[-2:] for grid in grids.values())
        images = inputs.whole if SCORES[self.part].sees_whole else inputs.framed
        seen = torch.ones_like(images) if features.seen is None else features.seen >= SEEN
        return {name: resize(grid, size) for name, grid in grids.items()}, seen[:, 0].bool()


@dataclass(frozen=True, kw_only=True)
class FineMap:
    """Map of where an image is unlike normal ones.

    All cells share one scale. With a scale of its own, a cell that differs much among normal images, as at the borders
    of the lungs, would hide what is wrong there.

    Attributes:
        sources: memory, head and features of the map.
        levels: mean and standard deviation of each source over the cells of normal images.
        peaks: largest values of the maps of normal images.
        normals: normal images that set levels and peaks, ``validation`` or ``training``.
    """

    sources: Sources
    levels: Levels
    peaks: Calibration
    normals: str

    def values(self, inputs: Inputs) -> Tensor:
        """Compute the maps of a batch, (B, S, S), at least 0, and 0 where a border is repeated."""
        return values_of(*self.sources.read(inputs), levels=self.levels)

    def facts(self) -> dict[str, Any]:
        """Collect what a checkpoint holds of the map besides the memory and the head."""
        levels = {name: list(level) for name, level in self.levels.items()}
        peaks = torch.from_numpy(self.peaks.scores)
        return {"part": self.sources.part, "levels": levels, "peaks": peaks, "normals": self.normals}


def resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Interpolate maps bilinearly: (B, G, G) to (B, *size)."""
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear")[:, 0]


def values_of(grids: Mapping[str, Tensor], seen: Tensor, *, levels: Levels) -> Tensor:
    """Compute the values of maps, (B, S, S), from their sources, (B, G, G) each, and the seen pixels, (B, S, S)."""
    standard = {name: (grids[name] - mean) / std for name, (mean, std) in levels.items()}
    smooth = F.interpolate(combine(standard)[:, None], size=seen.shape[-2:], mode="bicubic")[:, 0]
    return smooth.clamp(min=0) * seen


def measure(sources: Sources, split: Split, *, model: ScoringModel, normals: str) -> FineMap:
    """Measure the scale of a map, and the largest values, on normal images.

    Args:
        sources: memory, head and features of the map.
        split: normal images, scanned, at most `MOST` of which are used.
        model: model of the map; its processes share the images.
        normals: ``validation`` or ``training``.
    """
    context, num_images = model.context, len(split.samples)
    chosen = np.linspace(0, num_images - 1, min(MOST, num_images)).round().astype(int).tolist()
    parts: list[tuple[dict[str, Tensor], Tensor]] = []
    for batch in context.loader(split.at(chosen)).epoch(0):
        grids, seen = sources.read(Inputs(model.network, batch.grey.to(context.device), batch.preprocessing))
        parts.append(({name: grid.cpu() for name, grid in grids.items()}, seen.cpu()))
    parts = context.team.joined(parts)
    levels = {name: level_of(torch.cat([grids[name] for grids, _ in parts])) for name in parts[0][0]}
    peaks = torch.cat([values_of(grids, seen, levels=levels).amax(dim=(1, 2)) for grids, seen in parts])
    return FineMap(sources=sources, levels=levels, peaks=Calibration.of(peaks.numpy()), normals=normals)


def level_of(grids: Tensor) -> tuple[float, float]:
    """Measure mean and standard deviation over all cells of maps, (B, G, G); the deviation is above 0."""
    return float(grids.mean()), max(float(grids.std()), 1e-6)


def measure_on_memory(sources: Sources) -> FineMap:
    """Measure the scale of a map by the distances of the images in its memory to each other; it does without a head."""
    memory = sources.memory
    has_others = memory.rows.shape[1] > 1
    grids = memory.own_distances(most=MOST).cpu() if has_others else torch.zeros(1, memory.grid, memory.grid)
    levels = {"distance": level_of(grids) if has_others else (0.0, 1.0)}  # one image has no distances to others
    peaks = values_of({"distance": grids}, torch.ones_like(grids), levels=levels).amax(dim=(1, 2))
    peaks_of = Calibration.of(peaks.numpy())
    return FineMap(sources=replace(sources, head=None), levels=levels, peaks=peaks_of, normals="training")


@torch.no_grad()
def build_sources(model: ScoringModel, train: Split, *, part: str, most: int = NUM_MEASURED) -> Sources:
    """Build the fine memory of a map from normal images; a cell keeps `NUM_ROWS` rows along `NUM_AXES` main axes.

    Args:
        model: model to build it for.
        train: normal images, scanned, in random order.
        part: one of `PARTS`.
        most: number of images to use, at most.
    """
    context, features_of = model.context, SCORES[part].load_features()
    cells = []
    for batch in context.loader(train.at([*range(min(most, len(train.samples)))])).epoch(0):
        inputs = Inputs(model.network, batch.grey.to(context.device), batch.preprocessing)
        cells.append(pool_cells(features_of(inputs, model.normals.backbone), GRID).features.cpu())
    joined = torch.cat(context.team.joined(cells)).to(context.device)
    memory = PatchMemory.build(joined, max_rows=most).reduced(num_rows=NUM_ROWS, num_axes=NUM_AXES)
    return sources_of(model, memory, part=part)


def sources_of(model: ScoringModel, memory: PatchMemory, *, part: str) -> Sources:
    """Put together the sources of a map of a model; only the features of its own network have a head."""
    is_own = not SCORES[part].uses_backbone
    return Sources(
        part=part,
        memory=memory,
        head=model.head if is_own else None,
        backbone=None if is_own else model.normals.backbone,
    )


def part_of(parts: tuple[str, ...]) -> str | None:
    """Choose the part of a score that its map is of; None for scores that compare no patch features."""
    return next((part for part in PARTS if part in parts), None)


def build_map(model: ScoringModel, train: Split, val: Split | None) -> FineMap | None:
    """Build the fine map of a model from its training images.

    Args:
        model: model that was trained on them.
        train: training images, scanned.
        val: validation images, scanned. With fewer than `LEAST` normal ones, half of the normal training images set the
            scale, which the memory then does without.

    Returns:
        The map; None for scores that compare no patch features, and of fewer than four normal images.
    """
    part = part_of(model.parts)
    normals = [i for i, label in enumerate(train.labels) if label == NORMAL]
    if part is None or len(normals) < 4:
        return None
    order = np.random.default_rng(model.config.run.seed).permutation(normals).tolist()
    held_out = val and val.at([i for i, label in enumerate(val.labels) if label == NORMAL])
    has_val = held_out is not None and len(held_out.samples) >= LEAST
    most = NUM_MEASURED if has_val else min(NUM_MEASURED, len(order) // 2)
    sources = build_sources(model, train.at(order), part=part, most=most)
    if held_out is not None and has_val:
        return measure(sources, held_out, model=model, normals="validation")
    return measure(sources, train.at(order[most:]), model=model, normals="training")


def with_map(checkpoint: Checkpoint, built: FineMap) -> Checkpoint:
    """Copy a checkpoint with a map of its model."""
    return replace(
        checkpoint,
        memories={**checkpoint.memories, MAP: built.sources.memory},
        training={**checkpoint.training, MAP: built.facts()},
    )


def find_map(model: ScoringModel, checkpoint: Checkpoint, find_normals: Callable[[], Split | None]) -> FineMap | None:
    """Take the fine map of a model from its checkpoint, or make a coarser one of the memory of its score.

    Args:
        model: model that scores the images.
        checkpoint: checkpoint that the model was loaded from.
        find_normals: finds normal validation images, scanned, for a checkpoint without a map, or returns None.

    Returns:
        The map; None for scores that compare no patch features.
    """
    part = part_of(model.parts)
    if part is None:
        return None
    if (held := held_map(model, checkpoint)) is not None:
        return held
    sources = sources_of(model, model.memories[part].plain(), part=part)
    val = find_normals()
    if val is not None and len(val.samples) >= LEAST:
        return measure(sources, val, model=model, normals="validation")
    return measure_on_memory(sources)


def held_map(model: ScoringModel, checkpoint: Checkpoint) -> FineMap | None:
    """Take the fine map of a model from its checkpoint; None if that holds none, or one of another score."""
    part, held = part_of(model.parts), checkpoint.training.get(MAP)
    if part is None or not held or held["part"] != part or MAP not in checkpoint.memories:
        return None
    is_same = not SCORES[part].uses_backbone or has_settings(part, model.config, checkpoint)
    if not is_same:
        return None
    sources = sources_of(model, checkpoint.memories[MAP].to(model.context.device), part=part)
    sources = sources if "head" in held["levels"] else replace(sources, head=None)
    levels = {name: (float(mean), float(std)) for name, (mean, std) in held["levels"].items()}
    peaks = Calibration.of(held["peaks"].numpy())
    return FineMap(sources=sources, levels=levels, peaks=peaks, normals=held["normals"])
