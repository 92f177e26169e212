"""The numbers of a result: metrics.json, scores.csv, and the table on the screen."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from salad.evaluation.metrics import BASELINES, NUM_RESAMPLES, Auc, auc, auc_within, average_precision, bootstrap_auc
from salad.evaluation.rates import Confusion, Rate, sensitivity_at, specificity_at
from salad.evaluation.result import Result
from salad.evaluation.subgroups import Part, parts_by_kind, whole
from salad.images.scan import write_skipped
from salad.runs.atomic import atomic_file
from salad.runs.folder import RESULT_FILE, SCORES_FILE, RunFolder


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the threshold that validation normals fix makes of the images.

    Attributes:
        threshold: images that score above it are called abnormal.
        specificity_wanted: share of validation normals that do not.
        num_val_normals: how many of these there are.
        confusion: of the images.
        mean_percentile: of the normal images among validation normals, in percent; 50 where they are alike; None
            without normal images.
    """

    threshold: float
    specificity_wanted: float
    num_val_normals: int
    confusion: Confusion
    mean_percentile: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        confusion = self.confusion
        rates = {name: getattr(confusion, name) for name in ("sensitivity", "specificity", "precision")}
        return {
            "threshold": self.threshold,
            "specificity_wanted": self.specificity_wanted,
            "num_val_normals": self.num_val_normals,
            **{name: rate and rate.as_json() for name, rate in rates.items()},
            "f1": confusion.f1,
            "balanced_accuracy": confusion.balanced_accuracy,
            "confusion": asdict(confusion),
            "mean_percentile_of_normals": self.mean_percentile,
        }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All numbers of a result; None where a class is missing or nothing is known."""

    auc: Auc | None
    bootstrap: Auc | None
    seed: int
    average_precision: float | None
    prevalence: float
    operating_points: dict[str, Rate | None]
    decision: Decision | None
    baselines: dict[str, Auc | None]
    within_sharpness: Auc | None
    units: dict[str, Part]
    parts: dict[str, dict[str, Part]]

    def as_json(self) -> dict[str, Any]:
        """What metrics.json says of the images."""
        return {
            "auc": self.auc and self.auc.as_json(),
            "interval": "DeLong, 95 %",
            "auc_bootstrap": self.bootstrap
            and {**self.bootstrap.as_json(), "num_resamples": NUM_RESAMPLES, "seed": self.seed},
            "baseline_auc": {name: found and found.as_json() for name, found in self.baselines.items()},
            "auc_within_sharpness": self.within_sharpness and self.within_sharpness.as_json(),
            "average_precision": self.average_precision,
            "prevalence": self.prevalence,
            **{name: rate and rate.as_json() for name, rate in self.operating_points.items()},
            "at_threshold": self.decision and self.decision.as_json(),
            **{f"auc_by_{unit}": part.as_json() for unit, part in self.units.items()},
            **{
                f"auc_by_{kind}": {name: part.as_json() for name, part in parts.items()}
                for kind, parts in self.parts.items()
            },
        }

    def rows(self) -> list[tuple[str, str]]:
        """The table for the screen: names and values."""
        baselines = [(f"AUC of {name.replace('_', ' ')}", _shown(found)) for name, found in self.baselines.items()]
        rows = [("AUC of score", _shown(self.auc)), *baselines]
        if self.auc is None:
            return rows
        assert self.bootstrap is not None, "as the AUC"
        rows += [
            ("  beyond sharpness", _shown(self.within_sharpness)),
            ("  its bootstrap interval", f"{self.bootstrap.low:.4f} to {self.bootstrap.high:.4f}"),
            ("average precision", f"{self.average_precision:.4f} (by chance {self.prevalence:.4f})"),
            *((name.replace("_", " "), _shown(rate)) for name, rate in self.operating_points.items()),
            *self._decision_rows(),
            *((f"AUC by {unit}", str(part)) for unit, part in self.units.items()),
            *((f"AUC, {kind} {name}", str(part)) for kind, parts in self.parts.items() for name, part in parts.items()),
        ]
        return rows

    def _decision_rows(self) -> list[tuple[str, str]]:
        if self.decision is None:
            return []
        found, confusion = self.decision, self.decision.confusion
        how = f"above {found.specificity_wanted:.0%} of {found.num_val_normals} validation normals"
        return [
            ("threshold", f"{found.threshold:.6g}, {how}"),
            ("  sensitivity", _shown(confusion.sensitivity)),
            ("  specificity", _shown(confusion.specificity)),
            ("  F1, balanced accuracy", f"{confusion.f1:.4f}, {confusion.balanced_accuracy:.4f}"),
            ("  mean percentile of normals", f"{found.mean_percentile:.1f} (50 where they are as in validation)"),
        ]


def summarise(result: Result, *, specificity: float, seed: int) -> Summary:
    """Work out the numbers of a result; scores go into every one of them as they are.

    Args:
        result: of a split.
        specificity: share of validation normals at or below the threshold, in (0, 1].
        seed: of the bootstrap.
    """
    labels, scores, samples = result.labels, result.scores, result.split.samples
    units = {unit: whole([getattr(one, unit) for one in samples], labels, scores) for unit in ("study", "patient")}
    return Summary(
        auc=result.auc,
        bootstrap=bootstrap_auc(labels, scores, seed=seed),
        seed=seed,
        average_precision=average_precision(labels, scores),
        prevalence=float(np.mean(labels)),
        operating_points={
            "sensitivity_at_90_specificity": sensitivity_at(0.90, labels, scores),
            "sensitivity_at_95_specificity": sensitivity_at(0.95, labels, scores),
            "specificity_at_95_sensitivity": specificity_at(0.95, labels, scores),
        },
        decision=decide(result, specificity=specificity),
        baselines={name: auc(labels, getattr(result, name)) for name in BASELINES},
        within_sharpness=auc_within(labels, scores, strata_of=result.image_sharpness),
        units={unit: part for unit, part in units.items() if part},
        parts=parts_by_kind(samples, scores),
    )


def decide(result: Result, *, specificity: float) -> Decision | None:
    """Apply the threshold of validation normals; None without these."""
    if result.calibration is None:
        return None
    threshold = result.calibration.threshold(specificity)
    normal = result.calibration.percentile(result.normal_scores)
    return Decision(
        threshold=threshold,
        specificity_wanted=specificity,
        num_val_normals=len(result.calibration.scores),
        confusion=Confusion.at(threshold, result.labels, result.scores),
        mean_percentile=float(normal.mean()) if len(normal) else None,
    )


def write_result(result: Result, summary: Summary, folder: RunFolder, **facts: Any) -> None:
    """Write scores.csv (path, label, score, percentile, parts), metrics.json and skipped.csv into the run folder."""
    split = result.split
    write_skipped(folder.path, split.skipped, scanned=("test",))
    percentiles = [""] * len(result.scores) if result.percentiles is None else result.percentiles.round(3).tolist()
    with (
        atomic_file(folder.path / SCORES_FILE) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "label", "score", "percentile", *result.parts])
        parts = np.stack([result.scores, *result.parts.values()], axis=1).tolist()
        for sample, (score, *others), percentile in zip(split.samples, parts, percentiles, strict=True):
            writer.writerow([sample.name, sample.label, repr(score), percentile, *map(repr, others)])
    text = {
        **summary.as_json(),
        "k": result.k,
        **({"parts": _parts(result)} if result.parts else {}),
        "num_normal": split.num_normal,
        "num_abnormal": len(split.samples) - split.num_normal,
        "num_skipped": len(split.skipped),
        "seconds": round(result.seconds, 2),
        **facts,
    }
    with atomic_file(folder.path / RESULT_FILE) as temporary:
        temporary.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


def _parts(result: Result) -> dict[str, Any]:
    """Of each score that was fused, its AUC and what it was standardised with."""
    assert result.standards is not None, "fused"
    aucs = {name: auc(result.labels, scores) for name, scores in result.parts.items()}
    return {
        name: {"auc": (found := aucs[name]) and found.as_json(), "val_mean": mean, "val_std": std}
        for name, (mean, std) in result.standards.of.items()
    }


def _shown(found: Auc | Rate | None) -> str:
    return str(found) if found else "undefined"
