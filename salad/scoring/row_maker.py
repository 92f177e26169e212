"""Make the lines of predict from scores."""

from __future__ import annotations

from salad.scoring.cautions import in_brief
from salad.scoring.row import Row
from salad.scoring.stream import Scored, Scorer


class RowMaker:
    """Maker of lines.

    Args:
        scorer: scorer of the images.
        specificity: share of normal validation images at or below the threshold, in (0, 1].

    Attributes:
        threshold: score above which an image is abnormal; None without a calibration.
    """

    def __init__(self, scorer: Scorer, *, specificity: float) -> None:
        self.calibration = scorer.calibration
        self.threshold = self.calibration.threshold(specificity) if self.calibration else None
        self.warnings = [*map(in_brief, scorer.model.warnings)]

    def make(self, scored: Scored, *, path: str | None, note: str | None = None) -> Row:
        """Make the line of an image.

        Args:
            scored: score of the image, or the reason why it has none.
            path: its path, made `printable`; None without one.
            note: doubt about the image, beside those of its score.
        """
        percentile = abnormal = None
        if scored.score is not None and self.calibration is not None and self.threshold is not None:
            percentile = round(float(self.calibration.percentile(scored.score)), 3)
            abnormal = scored.score > self.threshold
        notes = [note, scored.note, *(self.warnings if scored.score is not None else ())]
        return Row(
            path=path,
            score=scored.score,
            percentile=percentile,
            abnormal=abnormal,
            seconds=round(scored.seconds, 4),
            error=scored.error,
            note="; ".join(filter(None, notes)) or None,
            tags=scored.tags,
        )
