"""Name the places of a score map in numbers and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from salad.explaining.maps import ScoreMap

MOST_PLACES = 3
FRONTAL = ("PA", "AP")  # views that show the right side of the patient on the left
HEIGHTS, WIDTHS = ("upper third", "middle third", "lower third"), ("left", "middle", "right")
MIDDLE = (0.42, 0.58)  # left and right end of the middle, as shares of the width
NUM_NAMED = 2  # neighbours that the sentence names


class Place(NamedTuple):
    """Place of a large value of a map.

    Attributes:
        x: from the left edge of the film, as a share of its side, in (0, 1).
        y: from the top edge, as a share of its side, in (0, 1).
        value: value of the map, in standard deviations above normal images.
        ratio: value as a multiple of the threshold.
    """

    x: float
    y: float
    value: float
    ratio: float

    def words(self, view: str | None = None) -> str:
        """Name the place: its third from top to bottom, and its side.

        Args:
            view: view of the X-ray; in a frontal one (PA or AP) the side is that of the patient.
        """
        height = HEIGHTS[min(2, int(3 * self.y))]
        side = WIDTHS[(self.x >= MIDDLE[0]) + (self.x > MIDDLE[1])]
        if side == "middle":
            return f"{height}, middle"
        if (view or "").upper() in FRONTAL:
            return f"{height}, {'right' if side == 'left' else 'left'} side of the patient"
        return f"{height}, {side} side of the picture"


def find_places(values: np.ndarray, *, threshold: float) -> tuple[Place, ...]:
    """Find the peaks of the regions of a map that exceed its threshold; without one, the peak of the whole map.

    Args:
        values: (S, S), at least 0.
        threshold: value that stands out, above 0.

    Returns:
        At most `MOST_PLACES`, largest first; none if all is 0.
    """
    from scipy.ndimage import label, maximum_position  # imported here, because the import takes time

    if not values.max() > 0:
        return ()
    regions, count = label(values > threshold)
    peaks = maximum_position(values, regions, range(1, count + 1)) if count else [maximum_position(values)]
    places = [
        Place((column + 0.5) / len(values), (row + 0.5) / len(values), value, value / threshold)
        for row, column, value in ((int(row), int(column), float(values[row, column])) for row, column in peaks)
    ]
    return tuple(sorted(places, key=lambda place: -place.value)[:MOST_PLACES])


def describe(
    score_map: ScoreMap | None, neighbours: Sequence[str], *, parts: Mapping[str, float], view: str | None = None
) -> str:
    """Say in a sentence what drove the score of an image.

    Args:
        score_map: map of the score; None for scores without a patch memory.
        neighbours: names of the nearest normal images, nearest first.
        parts: parts of the score by name, of a fused score in standard deviations above normal images.
        view: view of the X-ray, which tells the side of the patient; None if it is unknown.
    """
    near = f"; nearest normal images: {', '.join(neighbours[:NUM_NAMED])}" if neighbours else ""
    if len(parts) > 1:
        of_parts = " and ".join(f"{name} {value:.1f} SD" for name, value in parts.items())
        near = f"; parts of the score: {of_parts} above normal{near}"
    if score_map is None:
        return f"This score has no map of places{near}."
    share = f"{100 * score_map.specificity:g} % of {score_map.normals} normals"
    if not score_map.places:
        return f"No place is less like normal images than their average{near}."
    first = score_map.places[0]
    times = f"{first.ratio:.1f} times the value that {share} stay below"
    text = f"{first.words(view)}: {first.value:.1f} SD above normal, {times}"
    if first.ratio <= 1:
        text = f"Nothing stands out; the largest value, in the {text}"
    others = [f"{place.words(view)} ({place.ratio:.1f})" for place in score_map.places[1:]]
    also = f"; then {' and '.join(others)}" if others else ""
    return f"{text[0].upper()}{text[1:]}{also}{near}."
