"""A checkpoint as a scorer of single images, wherever they come from, by the steps of test.py."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from salad.build import make_decoder, make_preprocessing, start_network
from salad.checkpoint import Checkpoint, load_checkpoint
from salad.config import Config
from salad.device import choose_device
from salad.errors import InputError, printable
from salad.evaluation.calibration import Calibration, Standards, combine
from salad.images.in_memory import Source, read_source, shown_name
from salad.images.read import GreyImage
from salad.samples import NORMAL
from salad.scoring.knn import NEEDS_ROWS
from salad.scoring.model import choose_rows_k, load_score
from salad.scoring.options import scoring_config
from salad.scoring.scores import Inputs

if TYPE_CHECKING:
    from salad.explaining.explain import Explainer
    from salad.explaining.explanation import Explanation
    from salad.networks.backbones import Backbone

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
        checkpoint: ours or a published one, of which all memory rows count as normal.
        calibration: scores of normal images that the model has not been trained on; by default the checkpoint's own.

    Attributes:
        calibration: None where there are no such scores.
        k: nearest rows behind a score, 0 where it has none.

    Raises:
        InputError: the checkpoint or an option does not fit.
    """

    def __init__(self, config: Config, checkpoint: Checkpoint, calibration: Calibration | None = None) -> None:
        self.config = config
        self.decoder = make_decoder(config)
        self.preprocessing = make_preprocessing(config, checkpoint.mean_image)
        self.device = choose_device(config.device)
        with torch.random.fork_rng(devices=[]):  # the first weights, drawn in vain
            self.network = start_network(config, checkpoint, self.device).eval()
        rows = checkpoint.bank.rows
        if checkpoint.row_labels is not None:
            rows = rows[checkpoint.row_labels == NORMAL]
        elif NEEDS_ROWS.intersection(config.parts):
            logger.warning("%s: which memory rows are normal is unknown, so all count as normal", checkpoint.path)
        self.rows = rows.to(self.device)
        self.k = choose_rows_k(config, num_normal_rows=len(rows))
        self._score = load_score(config, checkpoint, self.network, rows=self.rows, k=self.k)
        if config.is_fused and self._score.standards is None:
            raise InputError(
                f"{checkpoint.path}: does not say how to standardise the parts of --score fused: train with it, or let "
                "test.py score, which looks at the normal images of val/"
            )
        # the same tensors, not a second copy; and what only resuming needs is let go
        self.checkpoint = dataclasses.replace(
            checkpoint,
            model_state=self.network.state_dict(),
            training=checkpoint.without_run_state(),
            memories=self._score.memories,
        )
        self.calibration = calibration or self._score.calibration

    @property
    def standards(self) -> Standards | None:
        """Of the parts of a fused score; None for other scores."""
        return self._score.standards

    @property
    def backbone(self) -> Backbone | None:
        """The frozen network that the score looks through; None where it does not."""
        return self._score.backbone

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
        size = self.config.batch_size
        pool = ThreadPoolExecutor(max(1, self.config.n_jobs_dataloader), thread_name_prefix="decode")
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

    @cached_property
    def explainer(self) -> Explainer:
        """Made once: it looks at training and validation images, where they are as they were in training."""
        from salad.explaining.explain import make_explainer

        return make_explainer(self.config, self.checkpoint, score=self._score, device=self.device)

    def explain(self, source: Source) -> Explanation:
        """What the model sees in an image.

        Raises:
            InputError: it cannot be read.
        """
        return self.explainer.explain(torch.tensor(read_source(source, self.decoder))[None, None])[0]

    def _read(self, source: Source) -> _Read:
        start = time.perf_counter()
        try:
            content: GreyImage | str = read_source(source, self.decoder)
        except InputError as error:
            content = str(error).removeprefix(f"{printable(source)}: " if isinstance(source, Path) else "")
        return _Read(source, content, time.perf_counter() - start)

    @torch.no_grad()
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
        """Of decoded images (B, S0, S0), uint8."""
        inputs = Inputs(self.network, torch.from_numpy(pixels)[:, None].to(self.device), self.preprocessing)
        parts = {name: part(inputs).double().cpu().numpy() for name, part in self._score.parts.items()}
        scores = combine(parts, self._score.standards)
        if not np.isfinite(scores).all():
            raise InputError("a score is not a finite number: the weights of the model are damaged")
        return scores.tolist()  # type: ignore[no-any-return]
