"""Draw docs/films.jpg: films with their map, the line of its threshold, and their score.

    python docs/picture.py MODEL NORMAL ABNORMAL

MODEL is a file of main.py, NORMAL and ABNORMAL are folders of test films. The films are not chosen by hand: each class
is divided by score into as many equal groups as films are shown, and the film in the middle of each group is taken.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from salad import Detector
from salad.explaining.explanation import Explanation
from salad.explaining.heatmaps import lay_over

OUT = Path(__file__).with_name("films.jpg")
WIDTH, GAP, SIDE, LINE, TEXT = 1200, 6, 195, 19, 14  # of the picture, a gap, a film, a line and a font, in pixels
INK, FAINT, PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
NUM_NORMAL, NUM_ABNORMAL = 2, 4
CREDIT = (
    "Chest radiographs of children: Kermany, Zhang and Goldbaum, Mendeley Data, 2018, CC BY 4.0; "
    "registered to the mean normal film, scaled down, and coloured by the model."
)


def middles(scores: np.ndarray, count: int) -> list[int]:
    """Find the film in the middle of each of `count` equal groups by score, lowest first.

    Args:
        scores: scores of the films, (N,), N at least `count`.
        count: number of groups.

    Returns:
        Indices of the films, (count,).
    """
    order = np.argsort(scores, kind="stable")
    return [int(order[int((group + 0.5) / count * len(order))]) for group in range(count)]


def draw_column(picture: Image.Image, x: int, explanation: Explanation, lines: tuple[str, ...]) -> None:
    """Draw a film, below it the film with its map, and below that lines of text, the first one darker."""
    score_map = explanation.score_map
    if score_map is None:
        raise click.UsageError("MODEL has no map of its score: take one of --recipe strong")
    film = np.asarray(Image.fromarray(score_map.film).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    picture.paste(Image.fromarray(film), (x, 0))
    picture.paste(Image.fromarray(lay_over(film, score_map.film_layer(SIDE))), (x, SIDE + GAP))
    for row, text in enumerate(lines):
        y = 2 * (SIDE + GAP) + row * LINE
        write(picture, (x, y), text, INK if row == 0 else FAINT)


def write(picture: Image.Image, at: tuple[int, int], text: str, ink: tuple[int, int, int]) -> None:
    """Write a line of text, its upper left corner at `at`."""
    ImageDraw.Draw(picture).text(at, text, fill=ink, font=ImageFont.load_default(TEXT))


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("normal", type=click.Path(path_type=Path))
@click.argument("abnormal", type=click.Path(path_type=Path))
def main(model: Path, normal: Path, abnormal: Path) -> None:
    """Draw docs/films.jpg with the model file MODEL from the test films in the folders NORMAL and ABNORMAL."""
    detector = Detector.load(model)
    threshold = detector.threshold
    if threshold is None:
        raise click.UsageError("MODEL has no threshold: take one that was trained with normal images in val/")
    height = 2 * (SIDE + GAP) + 3 * LINE + GAP
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    x = 0
    for folder, label, count in (normal, "normal", NUM_NORMAL), (abnormal, "abnormal", NUM_ABNORMAL):
        files, scores = detector.files(folder), detector.score(folder)
        for index in middles(scores, count):
            side = "above" if scores[index] > threshold else "below"
            lines = f"{label}: score {scores[index]:.2f}", f"{side} the threshold {threshold:.2f}"
            draw_column(picture, x, detector.explain(files[index]), lines)
            click.echo(f"{files[index]}: {', '.join(lines)}")
            x += SIDE + GAP
    write(picture, (0, 2 * (SIDE + GAP) + 2 * LINE + GAP // 2), CREDIT, FAINT)
    picture.save(OUT, quality=88)
    click.echo(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
