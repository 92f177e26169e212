"""Command `python -m benchmarks.films`: robustness of trained models to changes of the test images.

All test images, normal and abnormal, are changed in the same way; the models are not.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageFilter, ImageOps

from salad import Detector
from salad.datasets import read_split
from salad.evaluation.metrics import auc
from salad.images.decoder import Decoder
from salad.samples import NORMAL, Selection

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

SEED = 0


def by_levels(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Change:
    """Make a change of an image from a change of its grey levels in [0, 1]."""

    def changed(film: Image.Image, rng: np.random.Generator) -> Image.Image:
        levels = change(np.asarray(film) / 255, rng)
        return Image.fromarray(np.rint(255 * levels.clip(0, 1)).astype(np.uint8))

    return changed


def rotated(film: Image.Image, rng: np.random.Generator, *, degrees: float) -> Image.Image:
    """Rotate by a random angle of up to `degrees`; corners become black."""
    return film.rotate(rng.uniform(-degrees, degrees), Image.Resampling.BICUBIC)


def coarse(film: Image.Image, *, factor: int) -> Image.Image:
    """Reduce the resolution by a factor."""
    return film.resize((film.width // factor, film.height // factor), Image.Resampling.BOX)


def compressed(film: Image.Image, *, quality: int) -> Image.Image:
    """Compress as JPEG."""
    file = io.BytesIO()
    film.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("L")


CHANGES: dict[str, Change] = {
    "as they are": lambda film, rng: film,
    "rotated by up to 5°": lambda film, rng: rotated(film, rng, degrees=5),
    "rotated by up to 10°": lambda film, rng: rotated(film, rng, degrees=10),
    "half the resolution": lambda film, rng: coarse(film, factor=2),
    "a quarter of it": lambda film, rng: coarse(film, factor=4),
    "blurred, 0.7 % of the side": lambda film, rng: film.filter(ImageFilter.GaussianBlur(0.007 * film.width)),
    "sharpened": lambda film, rng: film.filter(ImageFilter.UnsharpMask(0.009 * film.width, 150, 0)),
    "noise, 10 of 255": by_levels(lambda levels, rng: levels + rng.normal(0, 10 / 255, levels.shape)),
    "JPEG, quality 20": lambda film, rng: compressed(film, quality=20),
    "gamma 0.6": by_levels(lambda levels, rng: levels**0.6),
    "gamma 1.7": by_levels(lambda levels, rng: levels**1.7),
    "half the contrast": by_levels(lambda levels, rng: 0.25 + levels / 2),
    "equalised": lambda film, rng: ImageOps.equalize(film),
    "black border of 10 %": lambda film, rng: ImageOps.expand(film, border=film.width // 10),
    "the middle 80 %": lambda film, rng: ImageOps.crop(film, border=film.width // 10),
    "mirrored": lambda film, rng: ImageOps.mirror(film),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("dataset_name")
@click.argument("data_path", type=click.Path(path_type=Path))
@click.option("--load_model", "models", multiple=True, required=True, help="Checkpoint to score with; repeatable.")
@click.option("--normal_class", help="Class that counts as normal, as in main.py.")
@click.option("--side", default=256, show_default=True, help="Height and width of the films, in pixels.")
def main(dataset_name: str, data_path: Path, models: tuple[str, ...], normal_class: str | None, side: int) -> None:
    """Print the AUC of each model and its specificity at its threshold, for each change of the films."""
    split = read_split(dataset_name, data_path, "test", selection=Selection(normal_class=normal_class))
    assert split is not None, "only val may be absent"
    decoder, labels = Decoder(isize=side, resize="squash"), np.asarray(split.labels)
    films = [Image.fromarray(decoder.read(sample)) for sample in split.samples]
    detectors = [Detector.load(path) for path in models]
    click.echo(f"| films | {' | '.join(models)} |\n|{'---|' * (1 + len(models))}")
    for name, change in CHANGES.items():
        rng = np.random.default_rng(SEED)
        changed = [np.asarray(change(film, rng)) for film in films]
        cells = [cell(detector, changed, labels) for detector in detectors]
        click.echo(f"| {name} | {' | '.join(cells)} |")


def cell(detector: Detector, films: list[np.ndarray], labels: np.ndarray) -> str:
    """Format the AUC and, if there is a threshold, the specificity."""
    scores = detector.score(films)
    area, threshold = auc(labels.tolist(), scores), detector.threshold
    parts = ["" if area is None else f"{area.value:.3f}"]
    if threshold is not None:
        parts.append(f"{np.mean(scores[labels == NORMAL] <= threshold):.0%}")
    return ", ".join(filter(None, parts))


if __name__ == "__main__":
    main()
