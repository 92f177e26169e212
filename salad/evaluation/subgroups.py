"""AUCs of parts of a split: findings, views, sexes, ages; and of whole studies and patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from salad.evaluation.metrics import Auc, auc
from salad.samples import ABNORMAL, NORMAL, Sample

AGES = ((0, 17), (18, 39), (40, 64), (65, 200))  # years, both ends included


@dataclass(frozen=True, kw_only=True)
class Part:
    """The AUC of a part of the images.

    Attributes:
        auc: None where a class is missing.
        num_normal: normal images, or studies or patients, in it.
        num_abnormal: abnormal ones.
    """

    auc: Auc | None
    num_normal: int
    num_abnormal: int

    def __str__(self) -> str:
        return f"{self.auc or 'undefined'}; {self.num_normal} normal, {self.num_abnormal} abnormal"

    def as_json(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        found = self.auc.as_json() if self.auc else {"value": None, "low": None, "high": None}
        return {**found, "num_normal": self.num_normal, "num_abnormal": self.num_abnormal}


def part_of(labels: Sequence[int], scores: ArrayLike) -> Part:
    """The AUC of some images, by labels (N,) and scores (N,)."""
    num_abnormal = int(np.sum(labels))
    return Part(auc=auc(labels, scores), num_normal=len(labels) - num_abnormal, num_abnormal=num_abnormal)


def parts_by_kind(samples: Sequence[Sample], scores: np.ndarray) -> dict[str, dict[str, Part]]:
    """AUCs by finding (its abnormal images against all normal ones), and within each view, sex and age group.

    Args:
        samples: of a split, (N,).
        scores: of each, (N,).

    Returns:
        By kind (``finding``, ``view``, ``sex``, ``age``), then by name in sorted order; a kind of which the data set
        says nothing, or one and the same of all images, is left out.
    """
    labels = np.array([sample.label for sample in samples])
    normal = np.flatnonzero(labels == NORMAL)
    parts: dict[str, dict[str, Part]] = {}
    findings = _places({name for name in sample.findings} if sample.label == ABNORMAL else () for sample in samples)
    if len(findings) > 1:
        places = {name: np.concatenate([normal, places]) for name, places in findings.items()}
        parts["finding"] = {name: part_of(labels[i], scores[i]) for name, i in places.items()}
    for kind, values in (
        ("view", [sample.view for sample in samples]),
        ("sex", [sample.sex for sample in samples]),
        ("age", [_age_group(sample.age) for sample in samples]),
    ):
        places = _places(() if value is None else (value,) for value in values)
        if len(places) > 1:
            parts[kind] = {name: part_of(labels[i], scores[i]) for name, i in places.items()}
    return parts


def _places(names_of_each: Any) -> dict[str, np.ndarray]:
    """Where each name stands, in sorted order of the names."""
    found: dict[str, list[int]] = {}
    for place, names in enumerate(names_of_each):
        for name in names:
            found.setdefault(name, []).append(place)
    return {name: np.array(found[name]) for name in sorted(found)}


def _age_group(age: float | None) -> str | None:
    return next((f"{low} to {high}" for low, high in AGES if age is not None and low <= int(age) <= high), None)


def whole(units: Sequence[str | None], labels: Sequence[int], scores: ArrayLike) -> Part | None:
    """The AUC of whole studies or patients.

    Args:
        units: the study or the patient of each image, (N,); None where it is not known, which counts as one of its own.
        labels: 0 normal, 1 abnormal, (N,).
        scores: of the images, (N,).

    Returns:
        None where none is known to have several images.
    """
    known = [unit for unit in units if unit is not None]
    if len(set(known)) == len(known):
        return None
    return part_of(*by_unit([unit or f"\n{i}" for i, unit in enumerate(units)], labels, scores))


def by_unit(units: Sequence[str], labels: Sequence[int], scores: ArrayLike) -> tuple[list[int], np.ndarray]:
    """Labels and scores of whole studies or patients from those of their images.

    Args:
        units: of each image, (N,).
        labels: 0 normal, 1 abnormal, (N,); a unit with an abnormal image is abnormal.
        scores: of the images, (N,); that of a unit is their mean.

    Returns:
        One label and one score a unit, in the order of their names.
    """
    names, place = np.unique(np.asarray(units), return_inverse=True)
    means = np.bincount(place, weights=np.asarray(scores, dtype=np.float64)) / np.bincount(place)
    abnormal = np.bincount(place, weights=np.asarray(labels)) > 0
    return abnormal.astype(int).tolist(), means
