"""Draw the pictures of `--heatmaps DIR`: each image with its maps, and the marks of experts."""

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

PANEL = 384  # smallest side of a panel, in pixels
MARGIN, STRIP, FONT_SIZE, BAR = 8, 44, 13, 160  # margin, text below a panel, font and colour bar, in pixels
BACKGROUND, INK = (18, 18, 18), (235, 235, 235)  # dark, as films are read
MARK = (86, 180, 233)  # sky blue of Okabe and Ito: no map has it, and colour-blind people can tell it apart
MAX_NAME = 120  # characters of a file name; file systems allow 255 bytes


def draw_heatmaps(model: ScoringModel, checkpoint: Checkpoint, *, result: Result, folder: Path) -> Localisation | None:
    """Draw the maps of every scored image, and compare them with the marks of experts.

    Args:
        model: model that scored the images; the processes of its team share the images.
        checkpoint: checkpoint that the model was loaded from.
        result: of the test split.
        folder: for the pictures.

    Returns:
        Localisation metrics; None without marked images.

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
        for i, grey, explanation in zip(batch.index.tolist(), batch.grey, explainer.explain(batch.grey), strict=True):
            mask = None
            if is_marked(samples[i]):
                mask = read_mask(samples[i], decoder)
                mask = mask if mask is None else batch.preprocessing.mark(mask, grey, is_whole=is_whole)
                marks.add(mask, maps_of(explanation))
            percentile = None if result.percentiles is None else float(result.percentiles[i])
            picture = draw(explanation, score=float(result.scores[i]), percentile=percentile, mask=mask)
            save(picture, folder / names[i])
    total = Marks()
    for of_process in context.team.joined([marks]):
        total.merge(of_process)
    logger.info("heatmaps of %d images in %s", len(samples), folder)
    if num_others := len({path.name for path in folder.iterdir()}.difference(names)):
        logger.warning("%s: holds %d other files, which are not of this test", folder, num_others)
    return total.result()


def make_folder(folder: Path) -> None:
    """Make a folder, or raise `InputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--heatmaps {folder}: cannot be made ({error.strerror}); choose another folder") from None


def is_marked(sample: Sample) -> bool:
    """True for abnormal images with boxes or a mask; marks in normal images, of a minority of readers, do not count."""
    return sample.label == ABNORMAL and bool(sample.boxes or sample.mask)


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG file, or raise `StorageError`."""
    try:
        picture.save(path)
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror or error}); make room") from None


def file_names(names: Iterable[str]) -> list[str]:
    """Make a unique file name from each name of a sample: letters, digits, dots, hyphens and underscores, no folders.

    The names stay unique when case is ignored, as some file systems do.
    """
    taken: set[str] = set()
    unique_names = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("/", "__"))[-MAX_NAME:].strip(".") or "image"
        unique, number = stem, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.lower())
        unique_names.append(f"{unique}.png")
    return unique_names


def maps_of(explanation: Explanation) -> dict[str, NDArray[np.float32] | None]:
    """Collect the maps that share the frame of the scored image, by kind of map."""
    maps = {"error": explanation.error_map, "memory": explanation.memory_map}
    if explanation.score_map is not None:
        maps["score"] = explanation.score_map.values
    frame = explanation.scored_pixels.shape
    return {kind: values for kind, values in maps.items() if values is None or values.shape == frame}


def panels_of(explanation: Explanation) -> list[tuple[np.ndarray, str, tuple[float, float]]]:
    """Collect overlay, title and range of the colours of each map."""
    panels = []
    if (errors := explanation.error_overlay) is not None:
        unit = "SD above normal images" if explanation.is_standardized else "of at most 2"
        panels.append((errors, f"reconstruction error, {unit}", explanation.error_range))
    if explanation.score_map is not None:
        title = f"distance to normal images, SD above {explanation.score_map.normals} normals"
        panels.append((explanation.score_map.overlay, title, explanation.score_map.between))
    if (distances := explanation.memory_overlay) is not None:
        title = f"distance to the {len(explanation.neighbours)} nearest normal images, 1 - cosine"
        panels.append((distances, title, explanation.memory_range))
    return panels


def draw(
    found: Explanation, *, score: float, percentile: float | None, mask: NDArray[np.bool_] | None = None
) -> Image.Image:
    """Draw the image and its maps side by side, with the colour scale of each map below it.

    Args:
        found: explanation of the image.
        score: of the image.
        percentile: of the score among the validation normals; None without validation normals.
        mask: True inside the marks of experts, (S, S), in the frame of the scored image, to outline in all panels of
            that frame; None without marks.
    """
    rank = "" if percentile is None else f", above {percentile:.0f} % of validation normals"
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
        write(canvas, (MARGIN, MARGIN + side + 25), "in blue: marks of experts")
    return canvas


def write_legend(
    canvas: Image.Image, corner: tuple[int, int], *, title: str, between: tuple[float, float] | None
) -> None:
    """Write the title of a panel below it and, below the title, the scale of its colours."""
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
    """Outline a mask on its inner side, `width` pixels wide: (H, W) -> (H, W)."""
    inner = np.pad(mask, width)
    for _ in range(width):
        inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~inner[width:-width, width:-width]
