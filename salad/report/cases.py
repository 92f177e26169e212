"""Which test images are shown, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GROUPS = {
    "anomalous": "Most anomalous",
    "miss": "Worst misses",
    "alarm": "Worst false alarms",
    "normal": "Most normal",
}


def choose_cases(
    labels: Sequence[int], scores: np.ndarray, *, threshold: float, each: int = 12
) -> dict[int, tuple[str, ...]]:
    """The images at both ends of the scores, and the worst mistakes of a threshold.

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: of each, (N,).
        threshold: images that score above it are called abnormal.
        each: images of a group, at most.

    Returns:
        The groups (keys of `GROUPS`) of each place that has any, every place once, largest score first.
    """
    truth, falling = np.asarray(labels), np.argsort(-scores, kind="stable")
    above = scores[falling] > threshold
    chosen = {
        "anomalous": falling[:each],
        "miss": falling[~above & (truth[falling] == 1)][::-1][:each],
        "alarm": falling[above & (truth[falling] == 0)][:each],
        "normal": falling[::-1][:each],
    }
    groups: dict[int, tuple[str, ...]] = {}
    for name, places in chosen.items():
        for place in places.tolist():
            groups[place] = (*groups.get(place, ()), name)
    return {place: groups[place] for place in falling.tolist() if place in groups}


def members(cases: dict[int, tuple[str, ...]], *, most: int) -> dict[str, list[int]]:
    """The places of each group that has any, the most telling first, at most so many."""
    found = {}
    for name in GROUPS:
        places = [place for place, groups in cases.items() if name in groups]
        if places:
            found[name] = (places[::-1] if name in ("miss", "normal") else places)[:most]
    return found


def draw_others(num_images: int, *, known: Sequence[int], most: int, seed: int) -> list[int]:
    """Places of images for the map: the known ones, and others drawn at random until there are so many."""
    others = np.setdiff1d(np.arange(num_images), np.asarray(known, dtype=int))
    room = max(0, most - len(known))
    if len(others) > room:
        others = np.sort(np.random.default_rng(seed).choice(others, room, replace=False))
    return [*known, *others.tolist()]
