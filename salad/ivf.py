"""Approximate search with faiss, for memory banks of more rows than each query should be compared with."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from salad.errors import InputError
from salad.scoring import Search
from salad.search import Best, nearest

logger = logging.getLogger(__name__)

MIN_ROWS = 1_000_000  # fewer are searched exactly in the time that an index takes to build
WANTED_RECALL = 0.95
NUM_SAMPLED = 256  # queries that are searched for both ways
ROWS_TO_LEARN_A_LIST = 64  # k-means gains little from more
NO_ROW = -1  # what faiss gives where it found fewer than k


def choose_search(name: str, rows: Tensor, *, k: int, num_queries: int, seed: int) -> Search:
    """How to find the nearest rows, by the name of the option: exactly, or with an index from MIN_ROWS rows on.

    Args:
        name: ``exact`` or ``faiss``.
        rows: memory rows of normal images, (N, D).
        k: how many will be asked for.
        num_queries: how many queries will come.
        seed: of the index.

    Raises:
        InputError: faiss is not installed.
    """
    if name == "exact":
        return nearest
    _import_faiss()
    if len(rows) < MIN_ROWS:
        logger.info("--knn faiss: %d rows are searched exactly; an index pays from %d on", len(rows), MIN_ROWS)
        return nearest
    return InvertedFile(rows, k=k, num_queries=num_queries, seed=seed)


def describe_search(search: Search) -> dict[str, Any]:
    """What metrics.json says of a search after its last query; recall goes to the log, too."""
    if not isinstance(search, InvertedFile):
        return {"knn": "exact"}
    logger.info("--knn faiss: recall %.4f, measured with %d queries", search.recall, search.num_compared)
    return {
        "knn": "faiss",
        "knn_recall": round(search.recall, 5),
        "knn_recall_queries": search.num_compared,
        "knn_lists": search.num_lists,
        "knn_lists_looked_through": search.num_looked_through,
    }


class InvertedFile:
    """An index of faiss: the rows are spread over 4 sqrt(N) lists, and a query sees those of the nearest centres only.

    How many lists are looked through is doubled until the k nearest found for some of the rows themselves hold
    WANTED_RECALL of the true ones. The index lies on the CPU, and holds a copy of the rows.

    Args:
        rows: (N, D).
        k: how many will be asked for.
        num_queries: how many queries will come; NUM_SAMPLED of them, evenly spread, are searched for exactly, too.
        seed: of k-means and of the rows that recall is judged by.

    Attributes:
        num_compared: queries that were searched for exactly, too.

    Raises:
        InputError: faiss is not installed.
    """

    def __init__(self, rows: Tensor, *, k: int, num_queries: int, seed: int) -> None:
        faiss = _import_faiss()
        faiss.omp_set_num_threads(torch.get_num_threads())
        vectors = _as_array(rows)
        num_rows, dim = vectors.shape
        self.num_lists = min(round(4 * num_rows**0.5), num_rows)
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, self.num_lists, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = seed % 2**31
        self._index.cp.max_points_per_centroid = ROWS_TO_LEARN_A_LIST
        self._index.train(vectors)
        self._index.add(vectors)
        self.num_looked_through = self._choose_width(rows, k=k, seed=seed)
        logger.info(
            "--knn faiss: %d rows in %d lists, of which %d are looked through for a query",
            num_rows,
            self.num_lists,
            self.num_looked_through,
        )
        self._every = max(1, num_queries // NUM_SAMPLED)
        self._num_queries = self._num_found = self._num_true = self.num_compared = 0

    def _choose_width(self, rows: Tensor, *, k: int, seed: int) -> int:
        """So many lists that recall is as wanted, or all."""
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:NUM_SAMPLED]
        queries = rows[chosen.to(rows.device)]
        true = nearest(queries, rows, k=k)[1]
        width, recall = 1, 0.0
        while width < self.num_lists and recall < WANTED_RECALL:
            width = self._index.nprobe = min(2 * width, self.num_lists)
            recall = num_common(self._search(queries, k)[1], true) / true.numel()
        return width

    def _search(self, queries: Tensor, k: int) -> Best:
        values, index = self._index.search(_as_array(queries), k)
        return torch.from_numpy(values).to(queries), torch.from_numpy(index).to(queries.device)

    def __call__(self, queries: Tensor, rows: Tensor, *, k: int) -> Best:
        """As `salad.search.nearest` for the rows of the index, but some of the k found may not be the nearest."""
        values, index = self._search(queries, k)
        short = (index == NO_ROW).any(dim=1)
        if bool(short.any()):  # the lists looked through hold fewer than k rows
            values[short], index[short] = nearest(queries[short], rows, k=k)
        sampled = list(range(-self._num_queries % self._every, len(queries), self._every))
        self._num_queries += len(queries)
        if sampled:
            true = nearest(queries[sampled], rows, k=k)[1]
            self._num_found += num_common(index[sampled], true)
            self._num_true += true.numel()
            self.num_compared += len(sampled)
        return values, index

    @property
    def recall(self) -> float:
        """Share of the k nearest rows that were found, over the queries that were searched for exactly, too."""
        return self._num_found / max(1, self._num_true)


def num_common(found: Tensor, true: Tensor) -> int:
    """How many of the true row numbers were found, (Q, k) each, over all queries."""
    pairs = zip(found.cpu().numpy(), true.cpu().numpy(), strict=True)
    return sum(len(np.intersect1d(one, two)) for one, two in pairs)


def _as_array(vectors: Tensor) -> np.ndarray:
    return np.ascontiguousarray(vectors.detach().float().cpu().numpy())


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError('--knn faiss needs the package faiss: pip install "salad[faiss]"') from None
    return faiss
