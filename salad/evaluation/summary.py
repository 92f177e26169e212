"""Summarise a result, and write it: metrics.json, scores.csv, and the table on the screen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from salad.evaluation.calibration import shown_score
from salad.evaluation.drift import Drift
from salad.evaluation.metrics import BASELINES, NUM_RESAMPLES, Auc, auc, auc_within, average_precision, bootstrap_auc
from salad.evaluation.rates import Confusion, Rate, sensitivity_at, specificity_at
from salad.evaluation.result import Result
from salad.evaluation.subgroups import Subgroup, auc_by_unit, subgroups_by_kind
from salad.images.scan import write_skipped
from salad.runs.atomic import atomic_file
from salad.runs.csv_file import write_csv
from salad.runs.folder import RESULT_FILE, SCORES_FILE, RunFolder


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Predictions for the images at the threshold that was set on validation normals.

    Attributes:
        threshold: images that score above it are predicted abnormal.
        specificity_wanted: share of validation normals at or below the threshold.
        num_val_normals: number of validation normals.
        confusion: confusion matrix of the images.
        mean_percentile: mean percentile of the normal images among the validation normals; 50 if both score alike;
            None without normal images.
    """

    threshold: float
    specificity_wanted: float
    num_val_normals: int
    confusion: Confusion
    mean_percentile: float | None

    @property
    def rule(self) -> str:
        """Origin of the threshold in words."""
        share = f"{100 * self.specificity_wanted:g} % of {self.num_val_normals:,} validation normals"
        return f"{share} score at or below it"

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
    """Numbers of a result; a number is None where a class or its data are missing.

    Attributes:
        auc: AUC of the score with its DeLong interval.
        bootstrap: AUC of the score with its bootstrap interval.
        seed: of the bootstrap.
        average_precision: in [0, 1].
        prevalence: share of abnormal images.
        operating_points: rates at points of the ROC curve, by name.
        decision: predictions at the threshold of the validation normals.
        baselines: AUCs of scores without a model, by name.
        within_sharpness: AUC of the score over pairs of images of the same fifth by sharpness.
        units: AUC of whole studies and of whole patients, by ``study`` and ``patient``.
        subgroups: AUCs of subgroups, by kind and name.
        drift: comparison with the films of the calibration; None where they were not compared.
    """

    auc: Auc | None
    bootstrap: Auc | None
    seed: int
    average_precision: float | None
    prevalence: float
    operating_points: dict[str, Rate | None]
    decision: Decision | None
    baselines: dict[str, Auc | None]
    within_sharpness: Auc | None
    units: dict[str, Subgroup]
    subgroups: dict[str, dict[str, Subgroup]]
    drift: Drift | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return {
            "auc": self.auc and self.auc.as_json(),
            "interval": "DeLong, 95 %",
            "auc_bootstrap": self.bootstrap
            and {**self.bootstrap.as_json(), "num_resamples": NUM_RESAMPLES, "seed": self.seed},
            "baseline_auc": {name: area and area.as_json() for name, area in self.baselines.items()},
            "auc_within_sharpness": self.within_sharpness and self.within_sharpness.as_json(),
            "average_precision": self.average_precision,
            "prevalence": self.prevalence,
            **{name: rate and rate.as_json() for name, rate in self.operating_points.items()},
            "at_threshold": self.decision and self.decision.as_json(),
            **{f"auc_by_{unit}": subgroup.as_json() for unit, subgroup in self.units.items()},
            **{
                f"auc_by_{kind}": {name: subgroup.as_json() for name, subgroup in of_kind.items()}
                for kind, of_kind in self.subgroups.items()
            },
            **({"drift": self.drift.as_json()} if self.drift else {}),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of the table on the screen."""
        rows = [("AUC of score", _format(self.auc))]
        baselines = [(f"AUC of {name.replace('_', ' ')}", _format(area)) for name, area in self.baselines.items()]
        drift = [("drift", self.drift.brief)] if self.drift else []
        if self.auc is None:
            return [*rows, *baselines, *self._decision_rows(), *drift]
        assert self.bootstrap is not None, "defined where the AUC is"
        rows += [
            ("  bootstrap interval of AUC", f"{self.bootstrap.low:.4f} to {self.bootstrap.high:.4f}"),
            ("  AUC beyond sharpness", _format(self.within_sharpness)),
            *baselines,
            ("average precision", f"{self.average_precision:.4f} (by chance {self.prevalence:.4f})"),
            *((name.replace("_", " "), _format(rate)) for name, rate in self.operating_points.items()),
            *self._decision_rows(),
            *((f"AUC by {unit}", str(subgroup)) for unit, subgroup in self.units.items()),
            *(
                (f"AUC, {kind} {name}", str(subgroup))
                for kind, of_kind in self.subgroups.items()
                for name, subgroup in of_kind.items()
            ),
            *drift,
        ]
        return rows

    def _decision_rows(self) -> list[tuple[str, str]]:
        if self.decision is None:
            return []
        decision, confusion = self.decision, self.decision.confusion
        rows = [("threshold", f"{shown_score(decision.threshold)}; {decision.rule}")]
        rows += [("  sensitivity", _format(confusion.sensitivity)), ("  specificity", _format(confusion.specificity))]
        if confusion.f1 is not None and confusion.balanced_accuracy is not None:
            rows.append(("  F1, balanced accuracy", f"{confusion.f1:.4f}, {confusion.balanced_accuracy:.4f}"))
        if decision.mean_percentile is not None:
            said = f"{decision.mean_percentile:.1f} (50 if they score as in validation)"
            rows.append(("  mean percentile of normals", said))
        return rows


def summarise(result: Result, *, specificity: float, seed: int) -> Summary:
    """Compute the numbers of a result, all of them from the raw scores.

    Args:
        result: of a split.
        specificity: share of validation normals at or below the threshold, in (0, 1].
        seed: of the bootstrap.
    """
    labels, scores, samples = result.labels, result.scores, result.split.samples
    units = {
        unit: auc_by_unit([getattr(sample, unit) for sample in samples], labels, scores)
        for unit in ("study", "patient")
    }
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
        units={unit: subgroup for unit, subgroup in units.items() if subgroup},
        subgroups=subgroups_by_kind(samples, scores),
        drift=result.drift,
    )


def decide(result: Result, *, specificity: float) -> Decision | None:
    """Apply the threshold of validation normals; None without validation normals.

    Args:
        result: of a split.
        specificity: share of validation normals at or below the threshold, in (0, 1].
    """
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
    """Write scores.csv, metrics.json and skipped.csv into the run folder.

    Args:
        result: of a split; scores.csv has its path, label, score, percentile and parts for each image.
        summary: of the result.
        folder: of the run.
        facts: further entries of metrics.json.
    """
    split = result.split
    write_skipped(folder.path, split.skipped, scanned=("test",))
    percentiles = [""] * len(result.scores) if result.percentiles is None else result.percentiles.round(3).tolist()
    parts = np.stack([result.scores, *result.parts.values()], axis=1).tolist()
    rows = [
        [sample.name, sample.label, score, percentile, *others]
        for sample, (score, *others), percentile in zip(split.samples, parts, percentiles, strict=True)
    ]
    with atomic_file(folder.path / SCORES_FILE) as temporary:
        write_csv(temporary, [["path", "label", "score", "percentile", *result.parts], *rows])
    text = {
        **summary.as_json(),
        "warnings": list(result.warnings),
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
    """Collect the AUC, the mean and the standard deviation of each part of a fused score."""
    assert result.standards is not None, "fused"
    aucs = {name: auc(result.labels, scores) for name, scores in result.parts.items()}
    return {
        name: {"auc": (area := aucs[name]) and area.as_json(), "val_mean": mean, "val_std": std}
        for name, (mean, std) in result.standards.of.items()
    }


def _format(value: Auc | Rate | None) -> str:
    return str(value) if value else "undefined"
