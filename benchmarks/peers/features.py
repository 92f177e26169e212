"""scikit-learn and PyOD on features of the frozen Lite0, and command that computes these once for all of them.

`python -m benchmarks.peers.features FILMS OUT` writes the features of each folder of images, and their cost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from benchmarks.peers.cost import measured
from benchmarks.peers.films import JITTERED, TEST, TRAIN, VAL
from benchmarks.peers.fitted import COST_FILE, Cost, Fitted, features_folder, images_below
from benchmarks.peers.weights import INDEX, LITE0

Rows = NDArray[np.float32]
FOLDERS = (TRAIN, VAL, TEST, JITTERED)
GRIDS = {"pooled": 1, "3x3": 3}  # side of the grid that the features are averaged over, by name


def embed(folder: Path, grids: Iterable[int]) -> list[Rows]:
    """Compute the features of the images below a folder for each grid, (N, 112 * grid * grid)."""
    network = timm.create_model(LITE0, pretrained=True, features_only=True, out_indices=[INDEX]).eval()
    rows = []
    for path in images_below(folder):
        image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.inference_mode():
            maps = network(pixels)[0]
        rows.append([F.adaptive_avg_pool2d(maps, grid).flatten().numpy() for grid in grids])
    return [np.stack(of_grid) for of_grid in zip(*rows, strict=True)]


def nearest_neighbours(rows: Rows, seed: int) -> tuple[Any, Callable[[Rows], Rows], float | None]:
    """Fit scikit-learn's nearest neighbours, which have no threshold; the score is the mean distance of five."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=5).fit(rows)
    return model, lambda tested: model.kneighbors(tested)[0].mean(axis=1), None


def one_class_svm(rows: Rows, seed: int) -> tuple[Any, Callable[[Rows], Rows], float | None]:
    """Fit scikit-learn's one-class SVM on standardised features."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import OneClassSVM

    model = make_pipeline(StandardScaler(), OneClassSVM()).fit(rows)
    return model, lambda tested: -model.decision_function(tested), 0.0


def isolation_forest(rows: Rows, seed: int) -> tuple[Any, Callable[[Rows], Rows], float | None]:
    """Fit scikit-learn's isolation forest."""
    from sklearn.ensemble import IsolationForest

    model = IsolationForest(random_state=seed).fit(rows)
    return model, lambda tested: -model.decision_function(tested), 0.0


def pyod_knn(rows: Rows, seed: int) -> tuple[Any, Callable[[Rows], Rows], float | None]:
    """Fit PyOD's k nearest neighbours; its threshold lets a tenth of the training images be outliers."""
    from pyod.models.knn import KNN

    model = KNN().fit(rows)
    return model, model.decision_function, float(model.threshold_)


def pyod_lof(rows: Rows, seed: int) -> tuple[Any, Callable[[Rows], Rows], float | None]:
    """Fit PyOD's local outlier factor."""
    from pyod.models.lof import LOF

    model = LOF().fit(rows)
    return model, model.decision_function, float(model.threshold_)


def pyod_deep_svdd(rows: Rows, seed: int) -> tuple[Any, Callable[[Rows], Rows], float | None]:
    """Fit PyOD's Deep SVDD."""
    from pyod.models.deep_svdd import DeepSVDD

    model = DeepSVDD(n_features=rows.shape[1], random_state=seed, verbose=0).fit(rows)
    return model, model.decision_function, float(model.threshold_)


def pyod_autoencoder(rows: Rows, seed: int) -> tuple[Any, Callable[[Rows], Rows], float | None]:
    """Fit PyOD's autoencoder."""
    from pyod.models.auto_encoder import AutoEncoder

    model = AutoEncoder(random_state=seed, verbose=0).fit(rows)
    return model, model.decision_function, float(model.threshold_)


def fit(films: Path, xp: Path, *, seed: int, options: str) -> Fitted:
    """Fit a detector to features that `main` has computed.

    Args:
        films: folder of `Films`.
        xp: folder for its files; the features lie in its grandparent's folder `features`.
        seed: of the detector.
        options: name of its function here, and of the grid.
    """
    function, grid = options.split()
    folder = features_folder(xp)
    model, score, threshold = globals()[function](_load(folder, TRAIN)[grid], seed)
    joblib.dump(model, xp / "model.joblib")
    cost = Cost(**json.loads((folder / COST_FILE).read_text(encoding="utf-8")))
    return Fitted(
        score=lambda below: np.asarray(score(_load(folder, str(below.relative_to(films)))[grid]), dtype=np.float64),
        threshold=threshold,
        model=xp / "model.joblib",
        example=(embed, globals()[function]),
        shared=cost,
    )


def _load(folder: Path, images: str) -> dict[str, Rows]:
    with np.load(folder / f"{images.replace('/', '-')}.npz") as file:
        return dict(file)


def main(films: Path, out: Path) -> None:
    """Compute the features of all folders, and the cost of those of the training images."""
    out.mkdir(parents=True, exist_ok=True)
    costs = {}
    for images in FOLDERS:
        if (films / images).exists():
            number = len(images_below(films / images))
            rows, cost = measured(partial(embed, films / images, GRIDS.values()), num_images=number)
            arrays: dict[str, Any] = dict(zip(GRIDS, rows, strict=True))
            np.savez(out / f"{images.replace('/', '-')}.npz", **arrays)
            costs[images] = asdict(cost)
    (out / COST_FILE).write_text(json.dumps(costs[TRAIN]), encoding="utf-8")  # last: it says that all is done


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:]))
