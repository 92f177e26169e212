"""Compute AUCs of subgroups of the images (by finding, view, sex and age), and of whole studies and patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from salad.evaluation.metrics import Auc, auc
from salad.samples import ABNORMAL, NORMAL, Sample

AGES = ((0, 17), (18, 39), (40, 64), (65, 200))  # in years, both ends included


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """AUC of a subgroup of the images, or of studies or patients.

    Attributes:
        auc: AUC of the subgroup; None where a class is missing.
        num_normal: number of normal images, studies or patients.
        num_abnormal: number of abnormal images, studies or patients.
    """

    auc: Auc | None
    num_normal: int
    num_abnormal: int

    def __str__(self) -> str:
        return f"{self.auc or 'undefined'}; {self.num_normal} normal, {self.num_abnormal} abnormal"

    def as_json(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        area = self.auc.as_json() if self.auc else {"value": None, "low": None, "high": None}
        return {**area, "num_normal": self.num_normal, "num_abnormal": self.num_abnormal}


def subgroup_of(labels: Sequence[int], scores: ArrayLike) -> Subgroup:
    """Compute the AUC of a subgroup from its labels, (N,), and scores, (N,)."""
    num_abnormal = int(np.sum(labels))
    return Subgroup(auc=auc(labels, scores), num_normal=len(labels) - num_abnormal, num_abnormal=num_abnormal)


def subgroups_by_kind(samples: Sequence[Sample], scores: np.ndarray) -> dict[str, dict[str, Subgroup]]:
    """Compute AUCs of each finding (its abnormal images against all normal images), view, sex and age group.

    Args:
        samples: of a split, (N,).
        scores: of the samples, (N,).

    Returns:
        Subgroups by kind (``finding``, ``view``, ``sex``, ``age``), then by name in sorted order. A kind with fewer
        than two names is left out.
    """
    labels = np.array([sample.label for sample in samples])
    normal = np.flatnonzero(labels == NORMAL)
    subgroups: dict[str, dict[str, Subgroup]] = {}
    findings = index_by_name({*sample.findings} if sample.label == ABNORMAL else () for sample in samples)
    if len(findings) > 1:
        index = {name: np.concatenate([normal, abnormal]) for name, abnormal in findings.items()}
        subgroups["finding"] = {name: subgroup_of(labels[i], scores[i]) for name, i in index.items()}
    for kind, values in (
        ("view", [sample.view for sample in samples]),
        ("sex", [sample.sex for sample in samples]),
        ("age", [_age_group(sample.age) for sample in samples]),
    ):
        index = index_by_name(() if value is None else (value,) for value in values)
        if len(index) > 1:
            subgroups[kind] = {name: subgroup_of(labels[i], scores[i]) for name, i in index.items()}
    return subgroups


def index_by_name(names_of_samples: Iterable[Iterable[str]]) -> dict[str, np.ndarray]:
    """Collect the indices of the samples that have each name; the names are sorted."""
    index: dict[str, list[int]] = {}
    for i, names in enumerate(names_of_samples):
        for name in names:
            index.setdefault(name, []).append(i)
    return {name: np.array(index[name]) for name in sorted(index)}


def _age_group(age: float | None) -> str | None:
    return next((f"{low} to {high}" for low, high in AGES if age is not None and low <= int(age) <= high), None)


def auc_by_unit(units: Sequence[str | None], labels: Sequence[int], scores: ArrayLike) -> Subgroup | None:
    """Compute the AUC of whole studies or patients, with the scores and labels of `by_unit`.

    Args:
        units: study or patient of each image, (N,); an image with None counts as a unit by itself.
        labels: 0 normal, 1 abnormal, (N,).
        scores: of the images, (N,).

    Returns:
        The AUC; None where no unit has several images.
    """
    known = [unit for unit in units if unit is not None]
    if len(set(known)) == len(known):
        return None
    return subgroup_of(*by_unit([unit or f"\n{i}" for i, unit in enumerate(units)], labels, scores))


def by_unit(units: Sequence[str], labels: Sequence[int], scores: ArrayLike) -> tuple[list[int], np.ndarray]:
    """Combine labels and scores of images to labels and scores of whole studies or patients.

    Args:
        units: study or patient of each image, (N,).
        labels: 0 normal, 1 abnormal, (N,); a unit with an abnormal image is abnormal.
        scores: of the images, (N,); the score of a unit is the mean over its images.

    Returns:
        Labels and scores of the units, (U,) each, sorted by the name of the unit.
    """
    _, index = np.unique(np.asarray(units), return_inverse=True)
    means = np.bincount(index, weights=np.asarray(scores, dtype=np.float64)) / np.bincount(index)
    abnormal = np.bincount(index, weights=np.asarray(labels)) > 0
    return abnormal.astype(int).tolist(), means
