"""Scorer of single images with a checkpoint; its scores equal those of test.py."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from salad.build import RunContext
from salad.checkpoint import MAP, Checkpoint, load_checkpoint, save_for_scoring
from salad.config import Config
from salad.device import choose_device
from salad.errors import InputError, MachineError, printable
from salad.evaluation.belonging import find_strange, in_short
from salad.evaluation.calibration import Calibration
from salad.evaluation.drift import Drift
from salad.evaluation.films import Films, join_films, measure_framing, measure_levels
from salad.images.dicom_tags import Tag
from salad.images.doubts import find_doubt
from salad.images.film_facts import Facts
from salad.images.grey_levels import measure_grey_levels
from salad.images.headers import Header, read_header_and_tags
from salad.images.in_memory import Source, read_source, shown_name
from salad.images.read import GreyImage
from salad.scoring.film_log import FilmLog
from salad.scoring.films import calibration_facts
from salad.scoring.model import ScoringModel
from salad.scoring.options import SCORED_BY, scoring_config
from salad.scoring.patch_memories import backbone_facts, has_settings

logger = logging.getLogger(__name__)

BATCHES_HELD = 2  # one in the network, and one being decoded
NOT_CALIBRATED = "the checkpoint holds no scores of normal validation images for this score and k"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Score of one image, or the reason why it cannot be read.

    Attributes:
        source: file or pixels.
        score: anomaly score, larger is more anomalous; None if the image cannot be read.
        error: reason why the image cannot be read, in one line; else None.
        seconds: processing time: decoding, plus its share of the time of the batch.
        note: doubts about the image or its score, in one line; else None.
        pixels: decoded image, (S0, S0), uint8; None if it cannot be read.
        view: view that its DICOM header tells; None if it is unknown.
        tags: elements of a DICOM file that were asked for, by keyword; empty for other files.
    """

    source: Source
    score: float | None
    error: str | None
    seconds: float
    note: str | None = None
    pixels: GreyImage | None = None
    view: str | None = None
    tags: Mapping[str, str | None] = field(default_factory=dict)


class Read(NamedTuple):
    """Decoded image and its measurements, or the error message in its place, with the decoding time in seconds."""

    source: Source
    content: GreyImage | str
    seconds: float
    films: Films = {}  # grey levels and aspect ratio, (1,) each
    facts: Facts = {}
    tags: Mapping[str, str | None] = {}


def load_scorer(path: Path, given: dict[str, Any]) -> Scorer:
    """Load a scorer from a checkpoint file.

    Args:
        path: path of the checkpoint.
        given: given options of `Config`, by name.

    Raises:
        InputError: the file is not a checkpoint, or an option does not fit.
    """
    checkpoint = load_checkpoint(path)
    return Scorer(scoring_config(checkpoint, given), checkpoint)


class Scorer:
    """Scorer of images, with the same scores as test.py.

    Args:
        config: config of `scoring_config`.
        checkpoint: checkpoint of this program or a published one.
        held_out: scores of normal images that the model was not trained on  [default: those of the checkpoint]

    Attributes:
        model: scoring model.
        films: scores and measurements of the films of the last `stream`, see `FilmLog.begin`.
        checkpoint: checkpoint without the entries that only resuming needs.
        tags: elements of DICOM files to read.
        strange: number of films of the last `stream` by what makes them unlike those of the training, see
            `find_strange`.

    Raises:
        InputError: the checkpoint or an option does not fit.
    """

    def __init__(self, config: Config, checkpoint: Checkpoint, held_out: Calibration | None = None) -> None:
        context = RunContext(config=config, device=choose_device(config.run.device), template=checkpoint.template)
        self.config = config
        self.model = ScoringModel.load(checkpoint, context)
        if config.scoring.is_fused and self.model.standards is None:
            raise InputError(
                f"{checkpoint.path}: holds no standards for the parts of --score fused: train with it, or use test.py, "
                "which computes them from the normal images of val/"
            )
        # shares the tensors of the model, and drops what only resuming needs, to save memory
        self.checkpoint = dataclasses.replace(
            checkpoint,
            model_state=self.model.network.state_dict(),
            training=checkpoint.without_run_state(),
            memories={
                **{name: memory for name, memory in checkpoint.memories.items() if name == MAP},
                **self.model.memories,
            },
        )
        if held_out is not None:
            self.model = dataclasses.replace(self.model, held_out=held_out)
        self.films = FilmLog()
        self.tags: tuple[Tag, ...] = ()
        self.strange: Counter[str] = Counter()

    def __reduce__(self) -> tuple[type[Scorer], tuple[Config, Checkpoint, Calibration | None]]:
        return type(self), (self.config, self.checkpoint, self.model.held_out)

    @property
    def calibration(self) -> Calibration | None:
        """Scores that percentiles and the threshold come from; None if there are none, or fewer than --min_normals."""
        return self.model.calibration

    @property
    def drift(self) -> Drift | None:
        """Comparison of the films that were scored with those of the calibration; None before any was scored."""
        return self.films.drift(self.model.held_out)

    def stream(self, sources: Iterable[Source | None]) -> Iterator[Scored]:
        """Score images batch by batch, while threads read the next batch.

        Args:
            sources: images, possibly endless. None means that no image will come for a while; all images before it are
                scored at once.

        Yields:
            Scores of the images, in their order.

        Raises:
            InputError: a score is not finite. An image that cannot be read raises no error.
        """
        self.films.begin()
        self.strange.clear()
        size = self.config.data.batch_size
        pool = ThreadPoolExecutor(max(1, self.config.data.n_jobs_dataloader), thread_name_prefix="decode")
        under_way: deque[Future[Read]] = deque()

        def score_next() -> list[Scored]:
            return self.score([under_way.popleft().result() for _ in range(min(size, len(under_way)))])

        try:
            for source in sources:
                if source is not None:
                    under_way.append(pool.submit(self.read, source))
                while under_way and (source is None or len(under_way) >= BATCHES_HELD * size):
                    yield from score_next()
            while under_way:
                yield from score_next()
        finally:
            pool.shutdown(cancel_futures=True)

    def calibrate(self, sources: Iterable[Source]) -> None:
        """Compute percentiles and the threshold from normal images that are not training images.

        Raises:
            InputError: fewer than --min_normals images can be read; the calibration is unchanged.
        """
        self.films, scores, num_bad = FilmLog(), [], 0
        for scored in self.stream(sources):
            if scored.score is None:
                num_bad += 1
                logger.warning("not calibrated with %s: %s", shown_name(scored.source), scored.error)
                continue
            if scored.note:
                logger.warning("calibrated with %s, which is doubtful: %s", shown_name(scored.source), scored.note)
            scores.append(scored.score)
        least = self.config.scoring.min_normals
        if len(scores) < least:
            raise InputError(
                f"there are {len(scores) or 'no'} normal images to calibrate with ({num_bad} cannot be read), fewer "
                f"than --min_normals {least}: give more of them"
                + (f", or --min_normals {len(scores)} to take so few" if scores else "")
            )
        _, films = self.films.read()
        self.model = dataclasses.replace(self.model, held_out=Calibration.of(scores, films))
        self.films = FilmLog()  # those of the calibration are none to compare with it

    def save(self, path: Path) -> None:
        """Write a checkpoint with weights, memory and calibration, for `load_scorer` and test.py.

        Raises:
            StorageError: the file cannot be written.
        """
        checkpoint = recorded(self.checkpoint, self.model)
        assert checkpoint.config is not None, "just recorded"
        save_for_scoring(path, checkpoint, config=checkpoint.config)

    def read(self, source: Source) -> Read:
        """Decode an image, or take the error message."""
        start = time.perf_counter()
        header, tags = (None, {}) if isinstance(source, np.ndarray) else read_header_and_tags(source, self.tags)
        try:
            content = read_source(source, self.model.context.decoder)
        except (InputError, MachineError) as error:
            reason = str(error).removeprefix(f"{printable(source)}: " if isinstance(source, Path) else "")
            return Read(source, reason, time.perf_counter() - start, tags=tags)
        films = measure_levels(measure_grey_levels(content[None]))  # here, where threads share the work
        if not self.config.images.align:  # as in `normal_aspects`
            films["aspect"] = np.array([_aspect(source, header)])
        return Read(source, content, time.perf_counter() - start, films, header.facts if header else {}, tags)

    def score(self, batch: list[Read]) -> list[Scored]:
        """Score the readable images of a batch that `read` has read.

        Raises:
            InputError: a score is not finite.
        """
        start = time.perf_counter()
        pixels = [read.content for read in batch if not isinstance(read.content, str)]
        films = [read.films for read in batch if read.films]
        scores = iter(self._score_pixels(np.stack(pixels), films) if pixels else [])
        share = (time.perf_counter() - start) / max(1, len(pixels))
        results = []
        for source, content, seconds, _, facts, tags in batch:
            if isinstance(content, str):
                results.append(Scored(source=source, score=None, error=content, seconds=seconds, tags=tags))
                continue
            strange = find_strange(facts, self.checkpoint.training.get("told") or {})
            self.strange.update(map(in_short, strange))
            results.append(
                Scored(
                    source=source,
                    score=next(scores),
                    error=None,
                    seconds=seconds + share,
                    note="; ".join(filter(None, [find_doubt(content), *strange])) or None,
                    pixels=content,
                    view=facts.get("view"),
                    tags=tags,
                )
            )
        return results

    def _score_pixels(self, pixels: np.ndarray, films: list[Films]) -> list[float]:
        """Score decoded images (B, S0, S0), uint8, and log them with these measurements of each."""
        batch = self.model.score(torch.from_numpy(pixels)[:, None])
        scores = self.model.combine(batch.parts)
        self.films.add(scores, {**join_films(films), **measure_framing(batch.params)})
        return scores.tolist()  # type: ignore[no-any-return]


def _aspect(source: Source, header: Header | None) -> float:
    """Measure the width of an image by its height; NaN for a file whose header cannot be read."""
    if isinstance(source, np.ndarray):
        height, width = source.shape[:2]
        return float(width / height)
    return header.aspect if header else float("nan")


def recorded(checkpoint: Checkpoint, model: ScoringModel) -> Checkpoint:
    """Copy a checkpoint with the options and the calibration of a model that was loaded from it.

    Args:
        checkpoint: checkpoint of the model.
        model: model, calibrated or not.
    """
    options, standards, backbone = model.config.as_json(), model.standards, model.normals.backbone
    facts: dict[str, Any] = {
        "parts": model.parts,
        "k": model.normals.k,
        "standards": standards and standards.of,
        **calibration_facts(model.held_out),
    }
    training, memories = checkpoint.training, checkpoint.memories
    if backbone is not None:
        facts["backbone"] = backbone_facts(backbone)
        is_of_it = (training.get(MAP) or {}).get("part") == "backbone"
        if is_of_it and not has_settings("backbone", model.config, checkpoint):  # the map is of the former backbone
            training = {name: value for name, value in training.items() if name != MAP}
            memories = {name: memory for name, memory in memories.items() if name != MAP}
    config = {**options, **(checkpoint.config or {}), **{name: options[name] for name in SCORED_BY}}
    return dataclasses.replace(checkpoint, config=config, training={**training, **facts}, memories=memories)
