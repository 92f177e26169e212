"""Compose the page of `predict --report FILE` while films are scored; its size is bounded."""

from __future__ import annotations

import heapq
import importlib
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch

from salad.errors import InputError, printable, say
from salad.evaluation.calibration import shown_score
from salad.explaining.explain import Explainer
from salad.explaining.film_pictures import FilmPictures
from salad.explaining.make import make_explainer
from salad.images.read import GreyImage
from salad.report import content
from salad.report.captions import RESEARCH_ONLY, model_facts, network_name, untrained_note, version_facts, words
from salad.report.details import HEATS, Detail, detail_of
from salad.report.page import render_page
from salad.report.table import Note
from salad.runs.atomic import atomic_file
from salad.scoring.predict import drift_lines

if TYPE_CHECKING:
    from salad.scoring.predict import Job, Outlet
    from salad.scoring.row import Row
    from salad.scoring.stream import Scored, Scorer

logger = logging.getLogger(__name__)

MOST_EXPLAINED = 200  # films with pictures, about 20 kB each
MOST_ROWS = 10_000  # films in the table, about 300 bytes each
MOST_UNREAD = 1000  # films that cannot be read, with the reason
SCRIPTS = ("views.js", "dialog.js", "films.js")

T = TypeVar("T")


class Film(NamedTuple):
    """Film to explain: its line, its pixels, (S0, S0), uint8, and its view."""

    row: Row
    pixels: GreyImage
    view: str | None


class Highest(Generic[T]):
    """The items with the highest scores of a stream.

    Args:
        most: number of items to keep.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._heap: list[tuple[float, int, T]] = []
        self._num_added = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, score: float, item: T) -> None:
        """Add an item; where there are too many, the lowest goes, of equal ones the last."""
        self._num_added += 1
        entry = (score, -self._num_added, item)
        if len(self._heap) < self.most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def falling(self) -> Iterator[T]:
        """List the items, highest score first."""
        return (item for *_, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))


def make_outlets(job: Job, scorer: Scorer, *, command: str) -> Sequence[Outlet]:
    """Make the outputs of predict that explain films.

    Args:
        job: job of predict, with `heatmaps` or `report`.
        scorer: scorer of its films.
        command: command line, for the page.

    Raises:
        InputError: an image of val/, which scales the maps, cannot be read, or the folder cannot be made.
    """
    if job.report is not None:
        importlib.import_module("jinja2")  # a lack is said now rather than after all films
    explainer = make_explainer(scorer.model, scorer.checkpoint)
    pictures = [FilmPictures(explainer, job.heatmaps)] if job.heatmaps is not None else []
    pages = [FilmReport(scorer, explainer, path=job.report, command=command)] if job.report is not None else []
    return [*pictures, *pages]


class FilmReport:
    """Page of new films.

    Args:
        scorer: scorer of the films.
        explainer: of its model.
        path: file of the page.
        command: command line, for the page.
    """

    def __init__(self, scorer: Scorer, explainer: Explainer, *, path: Path, command: str) -> None:
        self.scorer, self.explainer, self.path, self.command = scorer, explainer, path, command
        self.shown: Highest[Film] = Highest(MOST_EXPLAINED)
        self.rows: Highest[Row] = Highest(MOST_ROWS)
        self.unread: list[Row] = []
        self.num_films = self.num_unread = self.num_abnormal = self.num_noted = 0

    def take(self, scored: Scored, row: Row) -> None:
        """Count a film, and keep it if it is among the highest."""
        self.num_films += 1
        if row.score is None or scored.pixels is None:
            self.num_unread += 1
            if len(self.unread) < MOST_UNREAD:
                self.unread.append(row)
            return
        self.num_abnormal += bool(row.abnormal)
        self.num_noted += row.note is not None
        self.rows.add(row.score, row)
        self.shown.add(row.score, Film(row, scored.pixels, scored.view))

    def close(self) -> None:
        """Write the page.

        Raises:
            StorageError: it cannot be written.
        """
        page = self.compose()
        with atomic_file(self.path) as temporary:
            temporary.write_text(page, encoding="utf-8")
        say(f"report: {printable(self.path)}")

    def compose(self) -> str:
        """Compose the text of the page."""
        films = [*self.shown.falling()]
        details = self._explain(films)
        of_details, pictures = content.detail_data(details)
        cards = [{**_data(film.row), **detail} for film, detail in zip(films, of_details, strict=False)]
        scorer, unread = self.scorer, [(content.shown_name(row.path or ""), row.error) for row in self.unread]
        config, checkpoint, k = scorer.config, scorer.checkpoint, scorer.model.normals.k
        return render_page(
            "films.html",
            styles=("report.css",),
            scripts=SCRIPTS,
            title=f"{self.num_films:,} films, scored by {printable(network_name(config, checkpoint))}",
            tiles=self._tiles(),
            notes=[*self._drift_notes(), *map(Note, scorer.model.warnings)],
            heats=HEATS,
            caption=self._caption(len(cards)),
            untrained_note=untrained_note(checkpoint, has_map=True),
            cards=cards,
            table_caption=self._table_caption(),
            rows=map(_data, self.rows.falling()),
            tags=[tag.name for tag in scorer.tags],
            unread=unread,
            num_unread=self.num_unread,
            facts=[(name, printable(of)) for name, of in [*model_facts(config, checkpoint, k=k), *version_facts()]],
            command=printable(self.command),
            research_only=RESEARCH_ONLY,
            data={
                "items": [*map(content.without_card_pictures, cards)],
                "pictures": pictures,
                "words": words(config, checkpoint, details=details, k=k),
            },
        )

    def _drift_notes(self) -> list[Note]:
        """Say if the films are of the kind of the calibration; good news where nothing is found."""
        drift, lines = self.scorer.drift, drift_lines(self.scorer)
        is_good = drift is not None and drift.is_measured and not drift.is_found and not self.scorer.strange
        return [Note(f"Drift: {line}", is_good) for line in lines]

    def _explain(self, films: Sequence[Film]) -> list[Detail]:
        """Explain films batch by batch; where a training image is no longer there, warn, and return an empty list."""
        rest, details = iter(films), []
        try:
            while batch := [*islice(rest, self.scorer.config.data.batch_size)]:
                grey = torch.stack([torch.tensor(film.pixels) for film in batch])[:, None]
                for film, explanation in zip(batch, self.explainer.explain(grey), strict=True):
                    details.append(detail_of(explanation, view=film.view))
        except InputError as error:
            logger.warning("the page has no explanations: %s", error)
            return []
        return details

    def _tiles(self) -> list[tuple[str, str, str]]:
        """Make the numbers at the top: name, value and note."""
        num_read, calibration = self.num_films - self.num_unread, self.scorer.calibration
        tiles = [("Films", f"{self.num_films:,}", "")]
        if calibration is not None:
            specificity = self.scorer.config.scoring.specificity
            share = f"{100 * self.num_abnormal / max(1, num_read):.1f} % of the films that could be read"
            threshold = shown_score(calibration.threshold(specificity))
            usual = f"{100 * (1 - specificity):.3g} % of normal validation images exceed the threshold, {threshold}"
            tiles.append(("Above the threshold", f"{self.num_abnormal:,}", f"{share}; {usual}"))
        tiles.append(("Not read", f"{self.num_unread:,}", "each with its reason below" if self.num_unread else ""))
        tiles.append(("With a note", f"{self.num_noted:,}", "doubts about the film or the model"))
        return tiles

    def _caption(self, num_shown: int) -> str:
        """Say which films have pictures."""
        num_read = self.num_films - self.num_unread
        if num_read and not num_shown:
            return "No explanations: maps and neighbours could not be computed; the log has the reason."
        which = (
            "All films" if num_shown == num_read else f"The {num_shown} of {num_read:,} films with the highest scores"
        )
        return f"{which}, the highest first. Click one for its map, its places and the nearest normal images."

    def _table_caption(self) -> str:
        """Say which films the table has."""
        num_read = self.num_films - self.num_unread
        if len(self.rows) == num_read:
            return f"{num_read:,} films, the highest score first."
        return f"The {len(self.rows):,} films with the highest scores; the lines of predict have all {num_read:,}."


def _data(row: Row) -> dict[str, Any]:
    """Collect what the page tells of a film."""
    return {
        "name": content.shown_name(row.path or ""),
        "score": row.score,
        "percentile": None if row.percentile is None else round(row.percentile, 2),
        "abnormal": row.abnormal,
        "note": row.note,
        "tags": {name: printable(value) for name, value in row.tags.items() if value},
    }
