"""`--heatmaps DIR`: one picture for each image, with what the model sees in it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from salad.checkpoint import Checkpoint
from salad.errors import InputError, StorageError
from salad.evaluation.localisation import Localisation, Marks
from salad.evaluation.result import Result
from salad.explaining.explain import make_explainer
from salad.explaining.explanation import Explanation
from salad.explaining.heatmaps import colours
from salad.images.masks import read_mask
from salad.samples import ABNORMAL, Sample
from salad.scoring.model import ScoringModel

logger = logging.getLogger(__name__)

PANEL = 384  # pixels along a side, at least
MARGIN, STRIP, FONT_SIZE, BAR = 8, 44, 13, 160
BACKGROUND, INK = (18, 18, 18), (235, 235, 235)  # dark, as films are read
MARK = (86, 180, 233)  # sky blue of Okabe and Ito: no colour of the maps, and told apart from them by everybody
MAX_NAME = 120  # characters of a file name, which others may limit to 255 bytes


def draw_heatmaps(model: ScoringModel, checkpoint: Checkpoint, *, result: Result, folder: Path) -> Localisation | None:
    """Draw the maps of every image that was scored, and compare them with what experts marked.

    Args:
        model: that scored; the processes of its team share the images.
        checkpoint: that the model was loaded from.
        result: of the test split.
        folder: for the pictures.

    Returns:
        None where nothing is marked.

    Raises:
        InputError: an image can no longer be read.
        StorageError: a picture cannot be written.
    """
    context = model.context
    explainer = make_explainer(model, checkpoint)
    is_whole = explainer.views is not None and explainer.views.is_whole
    samples = result.split.samples
    names = file_names([sample.name for sample in samples])
    loader, decoder, marks = context.loader(result.split), context.decoder, Marks()
    for batch in tqdm(loader.epoch(0), total=len(loader), desc="heatmaps", leave=False, disable=None):
        for i, grey, found in zip(batch.index.tolist(), batch.grey, explainer.explain(batch.grey), strict=True):
            mask = None
            if is_marked(samples[i]):
                mask = read_mask(samples[i], decoder)
                mask = mask if mask is None else batch.preprocessing.mark(mask, grey, is_whole=is_whole)
                marks.add(mask, maps_of(found))
            percentile = None if result.percentiles is None else float(result.percentiles[i])
            picture = draw(found, score=float(result.scores[i]), percentile=percentile, mask=mask)
            save(picture, folder / names[i])
    total = Marks()
    for part in context.team.joined([marks]):
        total.merge(part)
    logger.info("heatmaps of %d images in %s", len(samples), folder)
    return total.result()


def make_folder(folder: Path) -> None:
    """Make a folder, or raise `InputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--heatmaps {folder}: cannot be made ({error.strerror}); choose another folder") from None


def is_marked(sample: Sample) -> bool:
    """Whether an abnormal image has boxes or a mask; what a minority of readers marked in a normal one is left out."""
    return sample.label == ABNORMAL and bool(sample.boxes or sample.mask)


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG file, or raise `StorageError`."""
    try:
        picture.save(path)
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror or error}); make room") from None


def file_names(names: Iterable[str]) -> list[str]:
    """A file name for each name of a sample: letters, digits, dots, hyphens and lines, without folders, all different.

    They differ in more than upper and lower case, which some file systems take for the same.
    """
    taken: set[str] = set()
    found = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("/", "__"))[-MAX_NAME:].strip(".") or "image"
        unique, number = stem, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.lower())
        found.append(f"{unique}.png")
    return found


def maps_of(found: Explanation) -> dict[str, NDArray[np.float32] | None]:
    """The maps in the frame in which the image was scored, by name."""
    maps = {"error": found.error_map, "memory": found.memory_map}
    if found.score_map is not None:
        maps["score"] = found.score_map.values
    return {name: one for name, one in maps.items() if one is None or one.shape == found.scored_pixels.shape}


def panels_of(found: Explanation) -> list[tuple[np.ndarray, str, tuple[float, float]]]:
    """The maps over the image, what each shows, and between which values its colours go."""
    panels = []
    if (errors := found.error_overlay) is not None:
        unit = "SD above normal images" if found.is_standardized else "of at most 2"
        panels.append((errors, f"reconstruction error, {unit}", found.error_range))
    if found.score_map is not None:
        title = f"unlike normal images, SD above {found.score_map.normals} normals"
        panels.append((found.score_map.overlay, title, found.score_map.between))
    if (distances := found.memory_overlay) is not None:
        title = f"unlike its {len(found.neighbours)} nearest normal images, 1 - cosine"
        panels.append((distances, title, found.memory_range))
    return panels


def draw(
    found: Explanation, *, score: float, percentile: float | None, mask: NDArray[np.bool_] | None = None
) -> Image.Image:
    """The image and its maps side by side, each map with the scale of its colours below.

    Args:
        found: in the image.
        score: of it.
        percentile: of the score among validation normals; None without these.
        mask: what experts marked in the image as it was scored, (S, S), outlined in that and in its maps; None without.
    """
    rank = "" if percentile is None else f", above {percentile:.0f} % of normal images"
    panels: list[tuple[np.ndarray, str, tuple[float, float] | None]]
    panels = [(found.scored_pixels, f"score {score:.4g}{rank}", None), *panels_of(found)]
    factor = -(-PANEL // len(found.scored_pixels))
    side = factor * len(found.scored_pixels)
    canvas = Image.new("RGB", (len(panels) * (side + MARGIN) + MARGIN, side + STRIP + 2 * MARGIN), BACKGROUND)
    edges = None if mask is None else Image.fromarray(outline(np.kron(mask, np.ones((factor, factor), bool))))
    for number, (pixels, title, between) in enumerate(panels):
        left = MARGIN + number * (side + MARGIN)
        panel = Image.fromarray(pixels).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        if edges is not None and len(pixels) == len(found.scored_pixels):
            panel.paste(MARK, mask=edges)
        canvas.paste(panel, (left, MARGIN))
        write_legend(canvas, (left, MARGIN + side), title=title, between=between)
    if edges is not None:
        write(canvas, (MARGIN, MARGIN + side + 25), "in blue: what experts marked")
    return canvas


def write_legend(
    canvas: Image.Image, corner: tuple[int, int], *, title: str, between: tuple[float, float] | None
) -> None:
    """Write a title below a panel and, below that, from which value to which its colours go."""
    left, top = corner
    write(canvas, (left, top + 5), title)
    if between is None:
        return
    low, high = (f"{value:.2g}" for value in between)
    write(canvas, (left, top + 25), low)
    bar = np.broadcast_to(np.rint(colours(np.linspace(0, 1, BAR))), (10, BAR, 3)).astype(np.uint8)
    canvas.paste(Image.fromarray(bar), (left + 36, top + 28))
    write(canvas, (left + 36 + BAR + 8, top + 25), f"{high} and more")


def write(canvas: Image.Image, corner: tuple[int, int], text: str) -> None:
    """Write a line of text."""
    ImageDraw.Draw(canvas).text(corner, text, fill=INK, font=ImageFont.load_default(FONT_SIZE))


def outline(mask: NDArray[np.bool_], *, width: int = 2) -> NDArray[np.bool_]:
    """The border of what is marked, inside it, this many pixels wide: (H, W) -> (H, W)."""
    inner = np.pad(mask, width)
    for _ in range(width):
        inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~inner[width:-width, width:-width]
