"""Draw the pictures of `--heatmaps DIR`: each image with its maps, and the marks of experts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from salad.errors import InputError, StorageError
from salad.explaining.explanation import Explanation
from salad.explaining.heatmaps import colours

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
