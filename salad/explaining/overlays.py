"""Draw the pictures of `--heatmaps DIR`: each image with its maps, and the marks of experts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from salad.errors import InputError, StorageError
from salad.evaluation.calibration import shown_score
from salad.explaining.heatmaps import colours, lay_over, outline, soft_layer
from salad.explaining.maps import MemoryMap, ScoreMap

if TYPE_CHECKING:
    from salad.explaining.explanation import Explanation

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


def make_picture_name(path: Path) -> str:
    """Make the file name of the picture of a film: its path in letters, digits, dots, hyphens and underscores.

    Where other characters, two underscores in a row or a long path are lost, eight digits of a hash keep it unique.
    """
    text = path.as_posix().lstrip("/")
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text.replace("/", "__")).lstrip(".")
    if name.replace("__", "/") != text or len(name) > MAX_NAME:
        name = f"{name[-MAX_NAME:]}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"
    return f"{name}.png"


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


class Scale(NamedTuple):
    """Scale of the colours of a map, the same for all images of a run.

    Attributes:
        title: quantity, with its unit.
        bar: colours from one end to the other, (10, BAR, 3), uint8.
        ends: values at the ends of the bar.
        line: value of the line in the bar; None without one.
    """

    title: str
    bar: np.ndarray
    ends: tuple[float, float]
    line: float | None = None


class Panel(NamedTuple):
    """Picture of an image or of a map over it.

    Attributes:
        pixels: (H, H) or (H, H, 3), uint8.
        frame: side of the image that it shows, in pixels.
        title: text below it.
        scale: scale of its colours; None without colours.
    """

    pixels: np.ndarray
    frame: int
    title: str
    scale: Scale | None = None


def scales_of(explanation: Explanation) -> dict[str, Scale]:
    """Describe the colours of the maps that an explanation has, by ``error``, ``score`` and ``memory``."""
    scales = {}
    bar = np.broadcast_to(np.rint(colours(np.linspace(0, 1, BAR))), (10, BAR, 3)).astype(np.uint8)
    for kind, found in explanation.maps.items():
        if isinstance(found, ScoreMap):
            scales[kind] = _scale_of_score(found)
        elif isinstance(found, MemoryMap):
            title = f"distance to the {len(explanation.neighbours)} nearest normal images, 1 - cosine"
            scales[kind] = Scale(title, bar, found.between)
        else:
            unit = "SD above normal images" if found.is_standardized else "of at most 2"
            scales[kind] = Scale(f"reconstruction error, {unit}", bar, found.between)
    return scales


def _scale_of_score(found: ScoreMap) -> Scale:
    """Describe the colours of a score map from 0 to three times its threshold."""
    high, grey = 3 * found.threshold, np.full((10, BAR), 110, np.uint8)
    ramp = np.broadcast_to(np.linspace(0, high, BAR, dtype=np.float32), (BAR, BAR))
    bar = lay_over(grey, soft_layer(ramp, threshold=found.threshold)[:10])
    title = f"SD above normal; line {found.threshold:.2g}: {100 * found.specificity:g} % of normals lie below"
    return Scale(title, bar, (0, high), found.threshold)


def panels_of(explanation: Explanation, *, side: int) -> list[Panel]:
    """Make the panel of each map, to be shown `side` pixels wide."""
    scales = scales_of(explanation)
    return [
        Panel(
            _draw_score(found, side=side) if isinstance(found, ScoreMap) else found.overlay,
            len(found.pixels),
            scales[kind].title,
            scales[kind],
        )
        for kind, found in explanation.maps.items()
    ]


def _draw_score(found: ScoreMap, *, side: int) -> np.ndarray:
    """Draw a score map over its enlarged film, (side, side, 3), uint8."""
    film = np.asarray(Image.fromarray(found.pixels).resize((side, side), Image.Resampling.BICUBIC))
    return lay_over(film, soft_layer(found.values, threshold=found.threshold, side=side))


def draw(found: Explanation, *, mask: NDArray[np.bool_] | None = None) -> Image.Image:
    """Draw the image and its maps side by side, with the colour scale of each map below it.

    Args:
        found: explanation of the image.
        mask: True inside the marks of experts, (S, S), in the frame of the scored image, to outline in all panels of
            that frame; None without marks.
    """
    rank = "" if found.percentile is None else f", above {found.percentile:.0f} % of validation normals"
    frame = len(found.scored_pixels)
    factor = -(-PANEL // frame)
    side = factor * frame
    panels = [
        Panel(found.scored_pixels, frame, f"score {shown_score(found.score)}{rank}"),
        *panels_of(found, side=side),
    ]
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
    if panel.scale is None:
        return
    low, high = (f"{value:.2g}" for value in panel.scale.ends)
    write(canvas, (left, top + 25), low)
    canvas.paste(Image.fromarray(panel.scale.bar), (left + 36, top + 28))
    write(canvas, (left + 36 + BAR + 8, top + 25), f"{high} and more")


def write(canvas: Image.Image, corner: tuple[int, int], text: str) -> None:
    """Write a line of text."""
    ImageDraw.Draw(canvas).text(corner, text, fill=INK, font=ImageFont.load_default(FONT_SIZE))
