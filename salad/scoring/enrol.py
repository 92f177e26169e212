"""Enrol normal images of the place where a model will be used: add them to its memory, and calibrate by them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from salad.checkpoint import MAP, Checkpoint
from salad.errors import InputError, printable
from salad.evaluation.belonging import with_further
from salad.evaluation.calibration import Calibration, Standards
from salad.evaluation.films import Films, join_films, measure_framing
from salad.images.doubts import find_doubt
from salad.images.film_facts import Facts
from salad.images.find import list_images
from salad.images.in_memory import Source, shown_name
from salad.images.read import GreyImage
from salad.images.threads import map_in_order
from salad.memory import MemoryBank
from salad.runs.outputs import check_output
from salad.samples import NORMAL
from salad.scores import SCORES
from salad.scores.inputs import Normals
from salad.scoring.enrolment import Enrolment, Shift
from salad.scoring.fine_maps import FineMap, held_map
from salad.scoring.model import ScoringModel, choose_rows_k
from salad.scoring.stream import Scorer, load_scorer, recorded
from salad.scoring.training_images import digest_of, enrolled_in, num_views_of

logger = logging.getLogger(__name__)

HELD = 0.02  # share of the usual distance within a patch memory: a film nearer to it is in it already
MOST_OWN = 50  # images of the memory that the usual distance is measured on, at most


class Film(NamedTuple):
    """Decoded image to enrol.

    Attributes:
        name: name to store with its rows.
        pixels: (S0, S0).
        digest: digest of the pixels, in hexadecimal digits.
        measured: its grey levels and aspect ratio, (1,) each.
        facts: kind of film, as far as its header tells it.
    """

    name: str
    pixels: GreyImage
    digest: str
    measured: Films
    facts: Facts = {}


class Seen(NamedTuple):
    """Scores of N films by the model before they are enrolled, and the rows that they add to its memories.

    Attributes:
        parts: scores of each part, (N,), by name.
        rows: rows for each patch memory, (G * G, N, C), by name of the score.
        z: unit embeddings, (N, D), on the CPU; None if the memory bank has no rows.
        measured: measurements of the films, (N,) each, by name.
        peaks: largest value of the map of each, (N,); None without a map.
    """

    parts: dict[str, np.ndarray]
    rows: dict[str, Tensor]
    z: Tensor | None
    measured: Films
    peaks: np.ndarray | None


def enrol(scorer: Scorer, sources: Iterable[Source]) -> tuple[Scorer, Enrolment]:
    """Add normal images to the patch memories and the memory bank of a model, and renew its calibration.

    The rows are whitened as those of the memory are. Standards of a fused score, threshold and percentiles come from
    the new images alone, each of which is scored against the memory without its own rows (leave-one-out).

    Args:
        scorer: scorer of the model, which stays as it is.
        sources: normal images that the model was not trained on.

    Returns:
        A scorer with the larger memory, and facts about the new images.

    Raises:
        InputError: there are fewer than --min_normals images, or as many as --local_rows; or the score is fused and
            there is a single one.
    """
    model = scorer.model
    films, num_unread, num_twice = _read(scorer, sources)
    seen = _look_at(model, films, held_map(model, scorer.checkpoint))
    new = np.flatnonzero(~_in_memory(model, seen))
    for i in sorted({*range(len(films))} - {*new.tolist()}):
        logger.warning("%s: left out, because the memory holds it already: is it a training image?", films[i].name)
    num_twice += len(films) - len(new)
    films, seen = [films[i] for i in new], _of(seen, new)
    _check_number(model, len(films), num_left_out=num_unread + num_twice)
    checkpoint, normals = _extended(scorer, films, seen)
    parts = leave_one_out(replace(model, normals=normals), films, num_views=num_views_of(checkpoint))
    standards = Standards.measure(parts) if model.config.scoring.is_fused else None
    renewed = replace(model, normals=normals, standards=standards)
    scores = renewed.combine(parts)
    renewed = replace(renewed, held_out=Calibration.of(scores, seen.measured))
    enrolled = Scorer(scorer.config, recorded(checkpoint, renewed))
    shift = Shift.between(
        model.combine(seen.parts), scores, former=model.calibration, specificity=model.config.scoring.specificity
    )
    counts = {"num_films": len(films), "num_all": len(enrolled_in(checkpoint))}
    return enrolled, Enrolment(**counts, num_unread=num_unread, num_twice=num_twice, shift=shift)


def run_enrol(path: Path, words: Sequence[str], *, out: Path, overwrite: bool, given: dict[str, Any]) -> Enrolment:
    """Enrol films in a model file, and write another.

    Args:
        path: checkpoint of the model.
        words: films, see `list_images`.
        out: file to write.
        overwrite: True to replace it if it exists.
        given: given options of `Config`, by name.

    Raises:
        InputError: the checkpoint, an option, the output or the films do not fit.
        StorageError: the file cannot be written.
    """
    check_output(out, inputs=[path, *map(Path, words)])
    if out.exists() and not overwrite:
        raise InputError(f"--out {printable(out)}: exists; --overwrite replaces it, or choose another name")
    scorer = load_scorer(path, given)
    scorer, enrolment = enrol(scorer, (film for film in list_images(words) if film is not None))
    scorer.model.log_warnings()
    scorer.save(out)
    return enrolment


@torch.no_grad()
def leave_one_out(model: ScoringModel, films: Sequence[Film], *, num_views: int) -> dict[str, np.ndarray]:
    """Score each film against the memory without its own rows; one pass of the network for each film.

    Args:
        model: model whose memories end with the rows of the films, in their order.
        films: the films.
        num_views: number of rows of the memory bank for each film.

    Returns:
        Scores of each part, (N,), by name.
    """
    scores = []
    for number, film in enumerate(films):
        normals = without(model.normals, number - len(films), num_views=num_views)
        scores.append(replace(model, normals=normals).score(_batch([film])).parts)
    return {part: np.concatenate([of_film[part] for of_film in scores]) for part in model.parts}


def without(normals: Normals, image: int, *, num_views: int) -> Normals:
    """Copy the reference to normal images without one of its last images.

    Args:
        normals: reference whose memories end with the rows of the same images.
        image: number of the image from the end, -1 for the last.
        num_views: number of rows of the memory bank for each image.
    """
    start = len(normals.rows) + image * num_views
    keeps = torch.ones(len(normals.rows), dtype=torch.bool, device=normals.rows.device)
    if len(normals.rows):
        keeps[start : start + num_views] = False
    rows = normals.rows[keeps]
    memories = {part: memory.without(image) for part, memory in normals.memories.items()}
    return replace(normals, rows=rows, k=min(normals.k, len(rows)), memories=memories)


def _read(scorer: Scorer, sources: Iterable[Source]) -> tuple[list[Film], int, int]:
    """Decode the films; return them, and the numbers of those that cannot be read and of copies.

    A copy has the pixels of another film, or of one that was enrolled before.
    """
    films: list[Film] = []
    names = {digest: name for name, digest in enrolled_in(scorer.checkpoint)}
    num_unread = num_twice = 0
    for read in map_in_order(scorer.read, sources, num_threads=scorer.config.data.n_jobs_dataloader):
        source, content = read.source, read.content
        name = printable(source.name) if isinstance(source, Path) else ""
        if isinstance(content, str):
            num_unread += 1
            logger.warning("not enrolled: %s: %s", shown_name(source), content)
            continue
        digest = digest_of(content)
        if digest in names:
            num_twice += 1
            logger.warning("not enrolled: %s: is the same film as %s", shown_name(source), names[digest])
            continue
        if doubt := find_doubt(content):
            logger.warning("enrolled with %s, which is doubtful: %s", shown_name(source), doubt)
        number = len(names) + 1
        name = name or f"enrolled film {number}"
        names[digest] = f"{name} ({number})" if name in names.values() else name
        films.append(Film(names[digest], content, digest, read.films, read.facts))
    return films, num_unread, num_twice


@torch.no_grad()
def _look_at(model: ScoringModel, films: Sequence[Film], fine_map: FineMap | None) -> Seen:
    """Score films, and compute their rows for each memory and the peaks of their maps, batch by batch."""
    size = model.config.data.batch_size
    scores, rows, embeddings, measured, peaks = [], [], [], [], []
    for start in range(0, len(films), size):
        batch = films[start : start + size]
        found = model.score(_batch(batch))
        scores.append(found.parts)
        inputs = found.inputs
        measured.append({**join_films([film.measured for film in batch]), **measure_framing(found.params)})
        peaks += [fine_map.values(inputs).amax(dim=(1, 2)).cpu().numpy()] if fine_map else []
        features = {part: SCORES[part].load_features()(inputs, model.normals.backbone) for part in model.memories}
        rows.append({part: memory.rows_of(features[part]) for part, memory in model.memories.items()})
        embeddings += [inputs.z.cpu()] if len(model.normals.rows) else []
    return Seen(
        parts={part: np.concatenate([of_batch[part] for of_batch in scores]) for part in model.parts if scores},
        rows={part: torch.cat([of_batch[part] for of_batch in rows], dim=1) for part in model.memories if rows},
        z=torch.cat(embeddings) if embeddings else None,
        measured=join_films(measured),
        peaks=np.concatenate(peaks).astype(np.float64) if peaks else None,
    )


def _batch(films: Sequence[Film]) -> Tensor:
    """Stack the pixels of films, (B, 1, S0, S0), uint8."""
    return torch.from_numpy(np.stack([film.pixels for film in films]))[:, None]


def _in_memory(model: ScoringModel, seen: Seen) -> np.ndarray:
    """Tell of each film, (N,), if a patch memory holds it already, as it holds the training images."""
    is_in = np.zeros(len(next(iter(seen.parts.values()), ())), dtype=bool)
    for part, memory in model.memories.items():
        if memory.rows.shape[1] > 1 and part in seen.rows:
            far = memory.plain().row_distances(seen.rows[part].float().transpose(0, 1)).mean(dim=1).cpu().numpy()
            is_in |= far < HELD * float(memory.own_distances(most=MOST_OWN).mean())
    return is_in


def _of(seen: Seen, index: np.ndarray) -> Seen:
    """Select films."""
    parts = {part: scores[index] for part, scores in seen.parts.items()}
    rows = {part: of_part[:, index] for part, of_part in seen.rows.items()}
    measured = {name: values[index] for name, values in seen.measured.items()}
    peaks = None if seen.peaks is None else seen.peaks[index]
    return Seen(parts, rows, None if seen.z is None else seen.z[index], measured, peaks)


def _check_number(model: ScoringModel, number: int, *, num_left_out: int) -> None:
    """Raise `InputError` if there are too few or too many films."""
    scoring = model.config.scoring
    least = max(scoring.min_normals, 2 if scoring.is_fused else 1)
    if number < least:
        raise InputError(
            f"there are {number or 'no'} normal films to enrol ({num_left_out} are left out), but it takes {least}: "
            "give more of them, or a smaller --min_normals"
        )
    if model.memories and number >= scoring.local_rows:
        raise InputError(
            f"there are {number} films to enrol, but --local_rows of the model is {scoring.local_rows}, and earlier "
            f"normal images have to stay: give {scoring.local_rows - 1} at most"
        )


def _extended(scorer: Scorer, films: Sequence[Film], seen: Seen) -> tuple[Checkpoint, Normals]:
    """Add the rows of films to the memories of a checkpoint and of its model."""
    checkpoint, model = scorer.checkpoint, scorer.model
    num_views, scoring = num_views_of(checkpoint), model.config.scoring
    memories = {
        part: memory.extended(seen.rows[part], max_rows=scoring.local_rows) for part, memory in model.memories.items()
    }
    bank, rows = checkpoint.bank, model.normals.rows
    if seen.z is not None:
        further = seen.z.repeat_interleave(num_views, dim=0)
        rows = torch.cat([rows, further.to(rows)])
        state = {**bank.state_dict(), "memory": torch.cat([bank.rows, further.to(bank.rows)])}
        bank = MemoryBank.from_state_dict(state, device=bank.rows.device)
    labels = checkpoint.row_labels
    if labels is not None:
        labels = torch.cat([labels, labels.new_full((len(films) * num_views,), NORMAL)])
    facts = {} if seen.peaks is None else {MAP: {**checkpoint.training[MAP], "peaks": torch.from_numpy(seen.peaks)}}
    told = with_further(checkpoint.training.get("told") or {}, [film.facts for film in films])
    enrolled = (*enrolled_in(checkpoint), *((film.name, film.digest) for film in films))
    extended = replace(
        checkpoint,
        bank=bank,
        row_labels=labels,
        anchors=None,  # of the smaller bank; only a training uses them
        memories={**checkpoint.memories, **memories},
        training={**checkpoint.training, "enrolled": enrolled, "told": told, **facts},
    )
    k = choose_rows_k(model.config, num_normal_rows=len(rows))
    return extended, replace(model.normals, rows=rows, k=k, memories=memories)
