"""Models of anomalib, through its own data module and Engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from anomalib import models
from anomalib.data import Folder, PredictDataset
from anomalib.engine import Engine
from anomalib.post_processing import PostProcessor
from lightning import seed_everything
from numpy.typing import NDArray

from benchmarks.peers.films import TEST, TRAIN, VAL, Films
from benchmarks.peers.fitted import Fitted
from benchmarks.peers.weights import BLOCK, LITE0
from salad.evaluation.localisation import Marks
from salad.images.decoder import Decoder
from salad.images.masks import read_mask

SIDE = 256  # of the maps, as anomalib resizes the images
SHALLOW = ("blocks.1", "blocks.2")  # stages before `BLOCK`, at a quarter and at an eighth of the side
CLASSES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "padim": ("Padim", {"backbone": LITE0, "layers": [*SHALLOW, BLOCK], "n_features": 100}, {}),
    "patchcore": (
        "Patchcore",
        {"backbone": LITE0, "layers": [BLOCK], "coreset_sampling_ratio": 0.004},
        {},
    ),
    "dfm": ("Dfm", {"backbone": LITE0, "layer": BLOCK}, {}),
    "stfpm": ("Stfpm", {"backbone": LITE0, "layers": [*SHALLOW, BLOCK]}, {"max_epochs": 5}),
    "efficientad": ("EfficientAd", {}, {}),
    "reverse-distillation": ("ReverseDistillation", {}, {}),
}
"""Class, its arguments and those of the Engine by name; other arguments are anomalib's defaults."""


def fit_model(films: Path, xp: Path, *, name: str, arguments: dict[str, Any], trained: dict[str, Any]) -> Any:
    """Train a model, and return it with its Engine.

    Validation is on normal images alone, so that its threshold is the largest of their scores.
    """
    # normalised scores end at 1, so that the most abnormal images would be ties
    own = {"post_processor": PostProcessor(enable_normalization=False), "visualizer": False, "evaluator": False}
    model = getattr(models, name)(**arguments, **own)
    engine = Engine(accelerator="cpu", default_root_dir=xp, logger=False, enable_progress_bar=False, **trained)
    folders = {"root": films, "normal_dir": TRAIN, "normal_test_dir": VAL}
    batches = {"train_batch_size": 32, "eval_batch_size": 32, "num_workers": 0}
    data = Folder(name="films", **folders, **batches, test_split_mode="from_dir", val_split_mode="same_as_test")
    engine.fit(model=model, datamodule=data)
    return model, engine


def predict(engine: Engine, model: Any, folder: Path) -> list[Any]:
    """Predict the images below a folder, batch by batch."""
    return engine.predict(model=model, dataset=PredictDataset(path=folder)) or []


def fit(films: Path, xp: Path, *, seed: int, options: str) -> Fitted:
    """Train a model of `CLASSES`.

    Args:
        films: folder of `Films`.
        xp: folder for its files.
        seed: of all random numbers.
        options: name in `CLASSES`.
    """
    seed_everything(seed, verbose=False)
    name, arguments, trained = CLASSES[options]
    model, engine = fit_model(films, xp, name=name, arguments=arguments, trained=trained)

    def score(folder: Path) -> NDArray[np.float64]:
        batches = predict(engine, model, folder)
        return np.concatenate([batch.pred_score.flatten().numpy() for batch in batches]).astype(np.float64)

    def locate(films: Path) -> tuple[float, float]:
        heats = np.concatenate([batch.anomaly_map.numpy() for batch in predict(engine, model, films / TEST)])
        return pointing_game(Films(films), heats.reshape(len(heats), SIDE, SIDE))

    return Fitted(
        score=score,
        threshold=float(model.post_processor.image_threshold),
        model=Path(engine.best_model_path or ""),
        example=(fit_model, predict),
        locate=locate,
    )


def pointing_game(films: Films, heats: NDArray[np.float32]) -> tuple[float, float]:
    """Measure the pointing game on the images with boxes, and that of a random pixel, as the program does its own.

    Args:
        films: data set.
        heats: maps of its test images, (N, S, S).
    """
    marks, decoder = Marks(), Decoder(isize=heats.shape[1], resize="squash")
    for sample, heat in zip(films.test, heats, strict=True):
        if sample.boxes:
            marks.add(sample, read_mask(sample, decoder), {"score": heat})
    located = marks.result(seed=0)
    assert located is not None, "some image has a box"
    return located.maps["score"].pointing.value, located.chance
