"""Facts about an enrolment: how far the new films lie from the earlier normal images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from salad.evaluation.calibration import Calibration, shown_score


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Distance of the enrolled films from the normal images that calibrated the model before.

    Attributes:
        num_before: number of these normal images; 0 if none calibrated the model.
        percentile: median percentile of the films among them, before; None without them.
        share_above: share of the films above the threshold before, in [0, 1]; None without one.
        medians: median score of the films, before and after, each without its own rows.
        thresholds: threshold before, None without one, and after.
    """

    num_before: int
    percentile: float | None
    share_above: float | None
    medians: tuple[float, float]
    thresholds: tuple[float | None, float]

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray, *, former: Calibration | None, specificity: float) -> Shift:
        """Measure the shift.

        Args:
            before: scores of the films before, (N,).
            after: scores of the films after, each without its own rows, (N,).
            former: scores that calibrated the model before, or None.
            specificity: share of normal images at or below the threshold, in (0, 1].
        """
        threshold = former.threshold(specificity) if former else None
        return cls(
            num_before=len(former.scores) if former else 0,
            percentile=float(np.median(former.percentile(before))) if former else None,
            share_above=None if threshold is None else float((before > threshold).mean()),
            medians=(float(np.median(before)), float(np.median(after))),
            thresholds=(threshold, Calibration.of(after).threshold(specificity)),
        )

    def lines(self) -> list[str]:
        """Describe the shift, a line for each fact."""
        lines = []
        if self.percentile is not None and self.share_above is not None:
            lines.append(
                f"before, half of them scored above percentile {self.percentile:.0f} of the {self.num_before} normal "
                f"images that calibrated the model, {100 * self.share_above:.0f} % above its threshold"
            )
        before, after = ("none" if value is None else shown_score(value) for value in self.thresholds)
        first, last = map(shown_score, self.medians)
        return [
            *lines,
            f"median of their scores: {first} before, {last} after without their own rows",
            f"threshold: {before} before, {after} after",
        ]


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """Films that were enrolled, and how far they lie from the earlier normal images.

    Attributes:
        num_films: number of films enrolled now.
        num_all: number of films enrolled in the model, earlier ones among them.
        num_unread: number of films left out because they cannot be read.
        num_twice: number of films left out because they are copies, or in the memory already.
        shift: distance from the earlier normal images.
    """

    num_films: int
    num_all: int
    num_unread: int
    num_twice: int
    shift: Shift

    def lines(self) -> list[str]:
        """Describe the enrolment, a line for each fact."""
        more = f"; {self.num_all} with those enrolled before" if self.num_all > self.num_films else ""
        lines = [f"enrolled {self.num_films} films{more}"]
        if self.num_unread or self.num_twice:
            copies = f"{self.num_twice} that are copies or in the memory already"
            lines.append(f"left out: {self.num_unread} that cannot be read, {copies}")
        return [*lines, *self.shift.lines()]
