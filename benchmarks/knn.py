"""Scores by the nearest rows of the memory: ours, faiss and scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.compare import Timing, compare
from salad.scoring import knn_angle, mean_angle

DIM = 200
NUM_QUERIES, NUM_ROWS, K = 25_596, 50_000, 150


def run(*, turns: int) -> list[Timing]:
    """The score of every image of NIH's test list against 50,000 rows, beside faiss and scikit-learn."""
    rows, queries = draw_rows(NUM_ROWS, seed=0), draw_rows(NUM_QUERIES, seed=1)
    few = queries[: NUM_QUERIES // 8]
    timings = [beside_faiss(queries, rows, few=few, turns=turns)] if find_spec("faiss") else []
    return [*timings, beside_sklearn(few, rows, turns=turns)]


def beside_faiss(queries: Tensor, rows: Tensor, *, few: Tensor, turns: int) -> Timing:
    """All queries; the scores of a few are compared."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(DIM)
    index.add(rows.numpy())

    def by_faiss(z: Tensor) -> Tensor:
        return mean_angle(torch.from_numpy(index.search(z.numpy(), K)[0]))

    return compare(
        f"kNN scores of {NUM_QUERIES:,} queries, {NUM_ROWS:,} rows, k {K}",
        lambda: knn_angle(queries, rows, k=K),
        lambda: by_faiss(queries),
        baseline="faiss IndexFlatIP",
        turns=turns,
        difference=largest_difference(knn_angle(few, rows, k=K), by_faiss(few)),
    )


def beside_sklearn(few: Tensor, rows: Tensor, *, turns: int) -> Timing:
    """A few queries, since all of them would take minutes."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="euclidean").fit(rows.numpy())

    def by_sklearn() -> Tensor:
        return mean_angle(1 - torch.from_numpy(search.kneighbors(few.numpy())[0]).square() / 2)

    return compare(
        f"the same of {len(few):,} queries",
        lambda: knn_angle(few, rows, k=K),
        by_sklearn,
        baseline="scikit-learn NearestNeighbors, brute force",
        turns=turns,
        difference=largest_difference(knn_angle(few, rows, k=K), by_sklearn()),
    )


def draw_rows(num_rows: int, *, seed: int) -> Tensor:
    """Random unit rows, (N, D)."""
    return F.normalize(torch.randn(num_rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Of two ways to the same scores.

    Raises:
        AssertionError: it is above 1e-5.
    """
    found = (ours.double() - theirs.double()).abs().max().item()
    if found > 1e-5:
        raise AssertionError(f"the scores differ by {found}")
    return found
