"""Measure the films of a scored split, for a calibration by its normal images and for the drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from salad.config import Config
from salad.evaluation.calibration import Calibration
from salad.evaluation.drift import Drift, find_drift
from salad.evaluation.films import MEASUREMENTS
from salad.evaluation.result import Result
from salad.images.headers import read_aspects
from salad.samples import NORMAL, Split


def find_normals(split: Split) -> NDArray[np.intp]:
    """Find the indices of the normal images of a split, (N,); of all images if none is normal."""
    normal = np.flatnonzero(np.asarray(split.labels) == NORMAL)
    return normal if len(normal) else np.arange(len(split.samples))


def normal_aspects(split: Split, config: Config) -> NDArray[np.float64]:
    """Read the aspect ratios of the images of `find_normals`, see `read_aspects`; none with --align.

    A registration shows the framing, which matters, also of files that were made square before.
    """
    if config.images.align:
        return np.empty(0)
    samples = [split.samples[i] for i in find_normals(split)]
    return read_aspects(samples, num_threads=config.data.n_jobs_dataloader)


def calibration_of(result: Result, aspects: NDArray[np.float64]) -> Calibration | None:
    """Make a calibration of the normal images of a result; None without any.

    Args:
        result: scores of a split.
        aspects: result of `normal_aspects`.
    """
    if not len(result.normal_scores):
        return None
    return Calibration.of(result.normal_scores, _measured(result, aspects))


def drift_of(result: Result, calibration: Calibration | None, aspects: NDArray[np.float64]) -> Drift:
    """Compare the normal images of a result, or all if none is normal, with a calibration.

    Args:
        result: scores of a split.
        calibration: calibration of the model; None if it has none.
        aspects: result of `normal_aspects`.
    """
    scores = result.scores[find_normals(result.split)]
    are_normal = result.split.num_normal > 0
    return find_drift(scores, _measured(result, aspects), calibration, are_normal=are_normal)


def calibration_facts(calibration: Calibration | None) -> dict[str, Any]:
    """Collect the entries of a checkpoint that hold a calibration; None or empty where there is none."""
    if calibration is None:
        return {"val_normal_scores": None, "films": {}}
    films = {name: torch.tensor(values, dtype=torch.float32) for name, values in calibration.films.items()}
    return {"val_normal_scores": torch.from_numpy(calibration.scores), "films": films}


def read_calibration(facts: dict[str, Any]) -> Calibration | None:
    """Read a calibration from the entries of a checkpoint; None if there is none."""
    scores, films = facts.get("val_normal_scores"), facts.get("films") or {}
    if scores is None or not len(scores):
        return None
    known = {name: films[name].double().numpy() for name in MEASUREMENTS if films.get(name) is not None}
    return Calibration.of(scores.numpy(), known)


def _measured(result: Result, aspects: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {**result.films(find_normals(result.split)), "aspect": aspects}
