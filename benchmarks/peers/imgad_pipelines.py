"""Pipelines of imgad: features of the frozen Lite0, and a classical detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from imgad import AnomalyDetectionPipeline
from imgad.data import list_images
from imgad.features import TimmFeatureExtractor
from numpy.typing import NDArray

from benchmarks.peers.films import TRAIN
from benchmarks.peers.fitted import Fitted
from benchmarks.peers.weights import LITE0


def fit_pipeline(folder: Path, detector: str) -> Any:
    """Fit a pipeline; 95 % of the training images, each scored by the others, are not above its threshold."""
    extractor = TimmFeatureExtractor(LITE0, device="cpu")
    pipeline = AnomalyDetectionPipeline(extractor=extractor, detector=detector)
    return pipeline.fit(list_images(folder), show_progress=False)


def score(pipeline: Any, folder: Path) -> NDArray[np.float64]:
    """Score the images below a folder."""
    return np.asarray(pipeline.score(list_images(folder), show_progress=False), dtype=np.float64)


def fit(films: Path, xp: Path, *, seed: int, options: str) -> Fitted:
    """Fit a pipeline.

    Args:
        films: folder of `Films`.
        xp: folder for its files.
        seed: unused, since nothing is drawn.
        options: name of the detector in imgad.
    """
    pipeline = fit_pipeline(films / TRAIN, options)
    pipeline.save(xp / "model.joblib")
    return Fitted(
        score=lambda folder: score(pipeline, folder),
        threshold=float(pipeline.threshold_),
        model=xp / "model.joblib",
        example=(fit_pipeline, score),
    )
