"""Score and explain single films that are in memory."""

from __future__ import annotations

import json
import logging
from typing import Any

import torch

from salad.errors import InputError, printable
from salad.evaluation.calibration import shown_score
from salad.explaining.make import make_explainer
from salad.images.read import FileContent, GreyImage
from salad.report.captions import words
from salad.report.details import detail_of
from salad.scoring.film_log import DriftWatch
from salad.scoring.row import Form, Row
from salad.scoring.row_maker import RowMaker
from salad.scoring.stream import Scorer

logger = logging.getLogger(__name__)

PICTURE_SIDE = 512  # of the film and its maps, in pixels


class FilmScorer:
    """Scorer of one film at a time, with the lines of predict.

    Args:
        scorer: scorer of the films.

    Raises:
        InputError: an image of val/, which scales the maps, cannot be read.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.specificity = scorer.config.scoring.specificity
        self.maker = RowMaker(scorer, specificity=self.specificity)
        self.explainer = make_explainer(scorer.model, scorer.checkpoint)
        self.lookout = DriftWatch(scorer.films, scorer.model.held_out, logger.warning)

    def score(self, film: FileContent, *, explains: bool) -> tuple[bool, str]:
        """Score a film.

        Args:
            film: content of its file.
            explains: whether the line also tells what drove the score, as ``explanation``.

        Returns:
            True if the film could be read, and the line: a JSON object as predict writes it.

        Raises:
            InputError: the score is not finite.
        """
        read = self.scorer.read(film)
        (scored,) = self.scorer.score([read])
        row = self.maker.make(scored, path=None)
        line = Form("jsonl").line(row)
        if isinstance(read.content, str):
            return False, line
        self.lookout.look()
        if not explains:
            return True, line
        return True, json.dumps({**json.loads(line), "explanation": self._explain(read.content, row)})

    def _explain(self, grey: GreyImage, row: Row) -> dict[str, Any]:
        """Explain a score in plain values; pictures are PNG in data URIs."""
        try:
            (explanation,) = self.explainer.explain(torch.tensor(grey)[None, None])
        except InputError as error:  # a training image that is no longer there
            logger.warning("no explanation: %s", error)
            return {"verdict": self._verdict(row), "error": f"no explanation: {printable(error)}"}
        detail = detail_of(explanation, view=None, most=PICTURE_SIDE, is_lossless=True)
        config, model = self.scorer.config, self.scorer.model
        texts = words(config, self.scorer.checkpoint, details=[detail], k=model.normals.k)
        return {
            "verdict": self._verdict(row),
            "sentence": printable(explanation.sentence),
            "places": [place._asdict() for place in detail.places],
            "neighbours": [{"name": name, "far": far, "picture": uri} for name, far, uri in detail.neighbours],
            "pictures": detail.pictures,
            "words": texts,
        }

    def _verdict(self, row: Row) -> str:
        """Say in words on which side of the threshold a score lies."""
        calibration, threshold = self.maker.calibration, self.maker.threshold
        if calibration is None or threshold is None:
            return "No threshold: the model holds too few scores of normal validation images"
        share = f"{100 * self.specificity:g} % of {len(calibration.scores)} normal validation images"
        side = "Above" if row.abnormal else "Not above"
        return f"{side} the threshold {shown_score(threshold)}, which {share} do not exceed"
