"""Facts about an enrolment: how far the new films lie from the earlier normal images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """Films that were enrolled, and how far they lie from the earlier normal images.

    Attributes:
        num_films: number of films enrolled now.
        num_all: number of films enrolled in the model, earlier ones among them.
        num_unread: number of films left out because they cannot be read.
        num_twice: number of films left out because they are copies, or in the memory already.
        percentile: median percentile of the films before, among the normal images that calibrated the model.
        share_above: share of them above the threshold before, in [0, 1].
        num_before: number of normal images that calibrated the model before; 0 if none did, and the two above are None.
        medians: median score of the films, before and after, each without its own rows.
        thresholds: threshold before, None if there was none, and after.
    """

    num_films: int
    num_all: int
    num_unread: int
    num_twice: int
    percentile: float | None
    share_above: float | None
    num_before: int
    medians: tuple[float, float]
    thresholds: tuple[float | None, float]

    def lines(self) -> list[str]:
        """Describe the enrolment, a line for each fact."""
        more = f"; {self.num_all} with those enrolled before" if self.num_all > self.num_films else ""
        lines = [f"enrolled {self.num_films} films{more}"]
        if self.num_unread or self.num_twice:
            left_out = (
                f"{self.num_unread} that cannot be read, {self.num_twice} that are copies or in the memory already"
            )
            lines.append(f"left out: {left_out}")
        if self.percentile is not None and self.share_above is not None:
            lines.append(
                f"before, half of them scored above percentile {self.percentile:.0f} of the {self.num_before} normal "
                f"images that calibrated the model, {100 * self.share_above:.0f} % above its threshold"
            )
        lines.append(
            "median of their scores: {:.4g} before, {:.4g} after, without their own rows".format(*self.medians)
        )
        before = "none" if self.thresholds[0] is None else f"{self.thresholds[0]:.4g}"
        return [*lines, f"threshold: {before} before, {self.thresholds[1]:.4g} after"]
