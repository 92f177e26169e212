"""A checkpoint as a scorer of single images, wherever they come from, by the steps of test.py."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from salad.build import RunContext
from salad.checkpoint import Checkpoint, load_checkpoint
from salad.config import Config
from salad.device import choose_device
from salad.errors import InputError, printable
from salad.evaluation.calibration import Calibration
from salad.images.in_memory import Source, read_source, shown_name
from salad.images.read import GreyImage
from salad.scoring.model import ScoringModel
from salad.scoring.options import scoring_config

logger = logging.getLogger(__name__)

BATCHES_HELD = 2  # one that the network works on, and one that is decoded meanwhile
NOT_CALIBRATED = "the checkpoint holds no scores of normal validation images for this score and k"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What became of one image.

    Attributes:
        source: the file or the pixels.
        score: larger is more anomalous; None where it could not be read.
        error: why not, in one line.
        seconds: of work on it: its decoding, and its share of its batch.
    """

    source: Source
    score: float | None
    error: str | None
    seconds: float


class _Read(NamedTuple):
    source: Source
    content: GreyImage | str
    seconds: float


def load_scorer(path: Path, given: dict[str, Any]) -> Scorer:
    """A scorer from a file, of which nothing else stays in memory.

    Args:
        path: of the checkpoint.
        given: options of `Config` that were given, by name.

    Raises:
        InputError: the file is no checkpoint, or an option does not fit.
    """
    checkpoint = load_checkpoint(path)
    return Scorer(scoring_config(checkpoint, given), checkpoint)


class Scorer:
    """Gives images the score that test.py would give them.

    Args:
        config: of `scoring_config`.
        checkpoint: ours or a published one.
        calibration: scores of normal images that the model has not been trained on; by default the checkpoint's own.

    Attributes:
        model: the scoring core.
        checkpoint: without what only resuming needs.
        calibration: None where there are no such scores.

    Raises:
        InputError: the checkpoint or an option does not fit.
    """

    def __init__(self, config: Config, checkpoint: Checkpoint, calibration: Calibration | None = None) -> None:
        context = RunContext(config=config, device=choose_device(config.run.device), template=checkpoint.template)
        self.config = config
        self.model = ScoringModel.load(checkpoint, context)
        if config.scoring.is_fused and self.model.standards is None:
            raise InputError(
                f"{checkpoint.path}: does not say how to standardise the parts of --score fused: train with it, or let "
                "test.py score, which looks at the normal images of val/"
            )
        # the same tensors, not a second copy; and what only resuming needs is let go
        self.checkpoint = dataclasses.replace(
            checkpoint,
            model_state=self.model.network.state_dict(),
            training=checkpoint.without_run_state(),
            memories=dict(self.model.memories),
        )
        self.calibration = calibration or self.model.calibration

    def __reduce__(self) -> tuple[type[Scorer], tuple[Config, Checkpoint, Calibration | None]]:
        return type(self), (self.config, self.checkpoint, self.calibration)

    def stream(self, sources: Iterable[Source | None]) -> Iterator[Scored]:
        """Score images one batch after the other; the next one is read by threads meanwhile.

        Args:
            sources: taken one by one, so there may be any number of them; None says that no more is to be expected
                for a while, and has all before it scored.

        Yields:
            One for each image, in their order.

        Raises:
            InputError: a score is not finite. An image that cannot be read is no error.
        """
        size = self.config.data.batch_size
        pool = ThreadPoolExecutor(max(1, self.config.data.n_jobs_dataloader), thread_name_prefix="decode")
        under_way: deque[Future[_Read]] = deque()

        def score_next() -> list[Scored]:
            return self._score_batch([under_way.popleft().result() for _ in range(min(size, len(under_way)))])

        try:
            for source in sources:
                if source is not None:
                    under_way.append(pool.submit(self._read, source))
                while under_way and (source is None or len(under_way) >= BATCHES_HELD * size):
                    yield from score_next()
            while under_way:
                yield from score_next()
        finally:
            pool.shutdown(cancel_futures=True)

    def calibrate(self, sources: Iterable[Source]) -> None:
        """Let percentiles and the threshold follow from these normal images, which it must not have been trained on.

        Raises:
            InputError: none of them can be read.
        """
        scores, num_bad = [], 0
        for one in self.stream(sources):
            if one.score is None:
                num_bad += 1
                logger.warning("not calibrated with %s: %s", shown_name(one.source), one.error)
            else:
                scores.append(one.score)
        if not scores:
            raise InputError(f"there are no normal images to calibrate with ({num_bad} cannot be read)")
        self.calibration = Calibration.of(scores)

    def _read(self, source: Source) -> _Read:
        start = time.perf_counter()
        try:
            content: GreyImage | str = read_source(source, self.model.context.decoder)
        except InputError as error:
            content = str(error).removeprefix(f"{printable(source)}: " if isinstance(source, Path) else "")
        return _Read(source, content, time.perf_counter() - start)

    def _score_batch(self, batch: list[_Read]) -> list[Scored]:
        start = time.perf_counter()
        pixels = [one.content for one in batch if not isinstance(one.content, str)]
        scores = iter(self._score_pixels(np.stack(pixels)) if pixels else [])
        share = (time.perf_counter() - start) / max(1, len(pixels))
        found = []
        for source, content, seconds in batch:
            if isinstance(content, str):
                found.append(Scored(source=source, score=None, error=content, seconds=seconds))
            else:
                found.append(Scored(source=source, score=next(scores), error=None, seconds=seconds + share))
        return found

    def _score_pixels(self, pixels: np.ndarray) -> list[float]:
        """Score decoded images (B, S0, S0), uint8."""
        parts = self.model.score(torch.from_numpy(pixels)[:, None]).parts
        scores: list[float] = self.model.combine(parts).tolist()
        return scores
