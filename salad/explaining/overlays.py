"""Draw the pictures of `--heatmaps DIR`: each image with its maps, and the marks of experts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from salad.errors import InputError, StorageError
from salad.evaluation.calibration import shown_score
from salad.explaining.explanation import Explanation, ScoreMap
from salad.explaining.heatmaps import colours, lay_over, outline, soft_layer

PANEL = 384  # smallest side of a panel, in pixels
MARGIN, STRIP, FONT_SIZE, BAR = 8, 44, 13, 160  # margin, text below a panel, font and colour bar, in pixels
BACKGROUND, INK = (18, 18, 18), (235, 235, 235)  # dark, as films are read
MARK = (86, 180, 233)  # sky blue of Okabe and Ito: no map has it, and colour-blind people can tell it apart
MAX_NAME = 120  # characters of a file name; file systems allow 255 bytes


def make_folder(folder: Path) -> None:
    """Make a folder, or raise `InputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--heatmaps {folder}: cannot be made ({error.strerror}); choose another folder") from None


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


class Panel(NamedTuple):
    """Picture of an image or of a map over it.

    Attributes:
        pixels: (H, H) or (H, H, 3), uint8.
        frame: side of the image that it shows, in pixels.
        title: text below it.
        bar: scale of its colours, (10, BAR, 3), uint8; None without colours.
        ends: values at the ends of the bar.
    """

    pixels: np.ndarray
    frame: int
    title: str
    bar: np.ndarray | None = None
    ends: tuple[float, float] = (0, 0)


def panels_of(explanation: Explanation, *, side: int) -> list[Panel]:
    """Make the panel of each map, to be shown `side` pixels wide."""
    panels = []
    frame = len(explanation.pixels)
    bar = np.broadcast_to(np.rint(colours(np.linspace(0, 1, BAR))), (10, BAR, 3)).astype(np.uint8)
    if (errors := explanation.error_overlay) is not None:
        unit = "SD above normal images" if explanation.is_standardized else "of at most 2"
        panels.append(Panel(errors, frame, f"reconstruction error, {unit}", bar, explanation.error_range))
    if explanation.score_map is not None:
        panels.append(_score_panel(explanation.score_map, side=side))
    if (distances := explanation.memory_overlay) is not None:
        title = f"distance to the {len(explanation.neighbours)} nearest normal images, 1 - cosine"
        panels.append(Panel(distances, frame, title, bar, explanation.memory_range))
    return panels


def _score_panel(found: ScoreMap, *, side: int) -> Panel:
    """Draw a score map over its enlarged film, with a bar from 0 to three times its threshold."""
    film = np.asarray(Image.fromarray(found.pixels).resize((side, side), Image.Resampling.BICUBIC))
    pixels = lay_over(film, soft_layer(found.values, threshold=found.threshold, side=side))
    high, grey = 3 * found.threshold, np.full((10, BAR), 110, np.uint8)
    ramp = np.broadcast_to(np.linspace(0, high, BAR, dtype=np.float32), (BAR, BAR))
    bar = lay_over(grey, soft_layer(ramp, threshold=found.threshold)[:10])
    title = f"SD above normal; line {found.threshold:.2g}: {100 * found.specificity:g} % of normals lie below"
    return Panel(pixels, len(found.pixels), title, bar, (0, high))


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
    frame = len(found.scored_pixels)
    factor = -(-PANEL // frame)
    side = factor * frame
    panels = [Panel(found.scored_pixels, frame, f"score {shown_score(score)}{rank}"), *panels_of(found, side=side)]
    canvas = Image.new("RGB", (len(panels) * (side + MARGIN) + MARGIN, side + STRIP + 2 * MARGIN), BACKGROUND)
    edges = None if mask is None else Image.fromarray(outline(np.kron(mask, np.ones((factor, factor), bool))))
    for number, shown in enumerate(panels):
        left = MARGIN + number * (side + MARGIN)
        panel = Image.fromarray(shown.pixels).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        if edges is not None and shown.frame == frame:
            panel.paste(MARK, mask=edges)
        canvas.paste(panel, (left, MARGIN))
        write_legend(canvas, (left, MARGIN + side), shown)
    if edges is not None:
        write(canvas, (MARGIN, MARGIN + side + 25), "in blue: marks of experts")
    return canvas


def write_legend(canvas: Image.Image, corner: tuple[int, int], panel: Panel) -> None:
    """Write the title of a panel below it and, below the title, the scale of its colours."""
    left, top = corner
    write(canvas, (left, top + 5), panel.title)
    if panel.bar is None:
        return
    low, high = (f"{value:.2g}" for value in panel.ends)
    write(canvas, (left, top + 25), low)
    canvas.paste(Image.fromarray(panel.bar), (left + 36, top + 28))
    write(canvas, (left + 36 + BAR + 8, top + 25), f"{high} and more")


def write(canvas: Image.Image, corner: tuple[int, int], text: str) -> None:
    """Write a line of text."""
    ImageDraw.Draw(canvas).text(corner, text, fill=INK, font=ImageFont.load_default(FONT_SIZE))
