"""Choose the test images that the report shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GROUPS = {
    "anomalous": "Most anomalous",
    "hit": "Typical hits",
    "miss": "Worst misses",
    "alarm": "Worst false alarms",
    "usual": "Typical normals",
    "normal": "Most normal",
}


def choose_cases(
    labels: Sequence[int], scores: np.ndarray, *, threshold: float, each: int = 12
) -> dict[int, tuple[str, ...]]:
    """Choose images at the ends, the worst misses and false alarms of a threshold, and typical right predictions.

    Typical are those whose scores are nearest to the median of the abnormal images above the threshold, or of the
    normal images that are not.

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: of the images, (N,).
        threshold: images that score above it are predicted abnormal.
        each: largest number of images in a group; half of it for typical ones.

    Returns:
        The groups (keys of `GROUPS`) of each chosen image by its index, sorted by score, largest first.
    """
    truth, descending = np.asarray(labels), np.argsort(-scores, kind="stable")
    above = scores[descending] > threshold
    chosen = {
        "anomalous": descending[:each],
        "hit": _typical(descending[above & (truth[descending] == 1)], scores)[: -(-each // 2)],
        "miss": descending[~above & (truth[descending] == 1)][::-1][:each],
        "alarm": descending[above & (truth[descending] == 0)][:each],
        "usual": _typical(descending[~above & (truth[descending] == 0)], scores)[: -(-each // 2)],
        "normal": descending[::-1][:each],
    }
    groups: dict[int, tuple[str, ...]] = {}
    for name, indices in chosen.items():
        for index in indices.tolist():
            groups[index] = (*groups.get(index, ()), name)
    return {index: groups[index] for index in descending.tolist() if index in groups}


def _typical(index: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sort images by the distance of their scores from the median score of all of them, nearest first."""
    own = np.asarray(scores)[index]
    middle = np.median(own) if len(own) else 0.0
    ordered: np.ndarray = index[np.argsort(np.abs(own - middle), kind="stable")]
    return ordered


def members(cases: dict[int, tuple[str, ...]], *, most: int) -> dict[str, list[int]]:
    """List the images of each group, the most extreme first, typical ones by score; empty groups are left out.

    Args:
        cases: groups of each image by its index, sorted by score, largest first.
        most: largest number of images in a group.
    """
    of_groups = {}
    for name in GROUPS:
        indices = [index for index, groups in cases.items() if name in groups]
        if indices:
            of_groups[name] = (indices[::-1] if name in ("miss", "normal") else indices)[:most]
    return of_groups


def draw_others(num_images: int, *, known: Sequence[int], most: int, seed: int) -> list[int]:
    """Draw images for the map: the known ones first, then others at random.

    Args:
        num_images: number of test images.
        known: indices that the map must show.
        most: number of images on the map; more only where more are known.
        seed: of the draw.
    """
    others = np.setdiff1d(np.arange(num_images), np.asarray(known, dtype=int))
    room = max(0, most - len(known))
    if len(others) > room:
        others = np.sort(np.random.default_rng(seed).choice(others, room, replace=False))
    return [*known, *others.tolist()]
