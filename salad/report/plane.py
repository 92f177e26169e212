"""Place test images on a plane: by their embeddings or, where no loss has trained these, by their patch features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from salad.report.details import read_pixels
from salad.samples import NORMAL
from salad.scores import SCORES
from salad.scores.inputs import Inputs

if TYPE_CHECKING:
    from salad.checkpoint import Checkpoint
    from salad.evaluation.result import Result
    from salad.scoring.model import ScoringModel

MAX_ROWS = 800  # memory rows on the map
BLOCK = 64  # images at a time


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Embeddings or patch features projected on two principal axes.

    Attributes:
        title: title of the map.
        num_dims: number of their dimensions.
        z: coordinates of test images, (N, 2).
        rows: coordinates of memory rows, (M, 2).
        explained: share of the variance of the test images along each axis, in [0, 1].
    """

    title: str
    num_dims: int
    z: np.ndarray
    rows: np.ndarray
    explained: tuple[float, float]


def principal_plane(z: np.ndarray, rows: np.ndarray, *, title: str) -> Plane:
    """Project test images and memory rows on the first two principal axes of the test images.

    The axes are fitted without the memory rows. After training the rows can lie far from the embeddings that the
    network computes in eval mode, and the first axis would show that gap and nothing else.

    Args:
        z: embeddings or patch features, (N, D), D at least 1.
        rows: memory rows, (M, D).
        title: title of the map.

    Returns:
        The coordinates; the sign of each axis makes its largest weight positive, so that it depends on the data alone.
    """
    centre = z.mean(axis=0, dtype=np.float64)
    centred = z - centre
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points = np.concatenate([centred, rows - centre]) @ axes
    total = values.clip(min=0).sum()
    explained = values[::-1][:2].clip(min=0) / total if total > 0 else np.zeros(2)
    if axes.shape[1] == 1:  # embeddings of one dimension
        points, explained = np.pad(points, ((0, 0), (0, 1))), np.append(explained[:1], 0.0)
    return Plane(
        title=title,
        num_dims=z.shape[1],
        z=points[: len(z)],
        rows=points[len(z) :],
        explained=(float(explained[0]), float(explained[1])),
    )


def embedding_plane(result: Result, checkpoint: Checkpoint, indices: list[int], *, seed: int) -> Plane:
    """Map the embeddings of these test images and of a sample of the memory rows of normal images."""
    rows, labels = checkpoint.bank.rows, checkpoint.row_labels
    normal = np.arange(len(rows)) if labels is None else np.flatnonzero(labels.numpy() == NORMAL)
    sample = _sample(normal, seed=seed).tolist()
    return principal_plane(result.z[indices], rows[sample].float().cpu().numpy(), title="Map of embeddings")


@torch.no_grad()
def patch_plane(result: Result, model: ScoringModel, indices: list[int], *, seed: int) -> Plane:
    """Map the patch features of these test images, all grid cells together, and a sample of those of normal images.

    The features are those of the first part of the score with a patch memory, whitened as its rows are. No rows are
    shown of a coreset, whose rows are of different images in different cells.

    Raises:
        InputError: an image can no longer be read.
    """
    part, memory = next(iter(model.memories.items()))
    images, context = result.split.images, model.context
    assert images is not None, "they have been scored"
    found = []
    for start in range(0, len(indices), BLOCK):
        chosen = indices[start : start + BLOCK]
        grey = read_pixels(images, chosen, num_threads=context.config.data.n_jobs_dataloader).to(context.device)
        inputs = Inputs(model.network, grey, context.preprocessing)
        found.append(memory.rows_of(SCORES[part].load_features()(inputs, model.normals.backbone)))
    num_rows = memory.rows.shape[1]
    kept = _sample(np.arange(num_rows if num_rows < context.config.scoring.local_rows else 0), seed=seed).tolist()
    z, rows = (
        cells.transpose(0, 1).flatten(1).float().cpu().numpy()
        for cells in (torch.cat(found, dim=1), memory.rows[:, kept])
    )
    return principal_plane(z, rows, title="Map of patch features")


def _sample(index: np.ndarray, *, seed: int) -> np.ndarray:
    """Choose at most `MAX_ROWS` entries at random, in their order."""
    if len(index) <= MAX_ROWS:
        return index
    return np.sort(np.random.default_rng(seed).choice(index, MAX_ROWS, replace=False))
