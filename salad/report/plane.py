"""Embeddings in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Embeddings on two principal axes.

    Attributes:
        z: of test images, (N, 2).
        rows: of the memory, (M, 2).
        explained: share of the variance of the test images along each axis.
    """

    z: np.ndarray
    rows: np.ndarray
    explained: tuple[float, float]


def principal_plane(z: np.ndarray, rows: np.ndarray) -> Plane:
    """Principal component analysis of test images; memory rows are put on the same axes.

    They do not take part in it: training may leave them far from where the weights place images in eval mode, and the
    axes would show that gap and nothing else.

    Args:
        z: embeddings, (N, D), D at least 1.
        rows: of the memory, (M, D).

    Returns:
        With signs that depend on the data alone: the largest weight of an axis is positive.
    """
    centre = z.mean(axis=0, dtype=np.float64)
    centred = z - centre
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    places = np.concatenate([centred, rows - centre]) @ axes
    total = values.clip(min=0).sum()
    explained = values[::-1][:2].clip(min=0) / total if total > 0 else np.zeros(2)
    if axes.shape[1] == 1:  # embeddings of one number
        places, explained = np.pad(places, ((0, 0), (0, 1))), np.append(explained[:1], 0.0)
    return Plane(z=places[: len(z)], rows=places[len(z) :], explained=(float(explained[0]), float(explained[1])))
