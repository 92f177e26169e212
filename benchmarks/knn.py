"""Benchmark `knn`: kNN scores, against one large matrix product and against scikit-learn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.compare import Timing, compare, seconds_of
from salad.scores.knn import knn_angle, mean_angle

DIM = 200
NUM_QUERIES, NUM_ROWS, K = 25_596, 50_000, 150


def run(*, turns: int) -> list[Timing]:
    """Time the scores of 3,199 queries against 50,000 rows with two baselines, then of all 25,596 NIH test images.

    The product of all queries would hold 4.8 GiB of cosines; that of an eighth holds 0.6 GiB.
    """
    rows, queries = draw_rows(NUM_ROWS, seed=0), draw_rows(NUM_QUERIES, seed=1)
    few = queries[: NUM_QUERIES // 8]
    seconds = [seconds_of(lambda: knn_angle(queries, rows, k=K)) for _ in range(turns)]
    return [
        beside_topk(few, rows, turns=turns),
        beside_sklearn(few, rows, turns=turns),
        Timing(task=f"the same of {NUM_QUERIES:,} queries", ours=seconds),
    ]


def beside_topk(few: Tensor, rows: Tensor, *, turns: int) -> Timing:
    """Time against all cosines in one matrix and torch.topk."""

    def by_topk() -> Tensor:
        return mean_angle((few @ rows.T).topk(K, dim=1, sorted=False).values)

    return compare(
        f"kNN scores of {len(few):,} queries, {NUM_ROWS:,} rows, k {K}",
        lambda: knn_angle(few, rows, k=K),
        by_topk,
        baseline="one matrix product, torch.topk",
        turns=turns,
        difference=largest_difference(knn_angle(few, rows, k=K), by_topk()),
    )


def beside_sklearn(few: Tensor, rows: Tensor, *, turns: int) -> Timing:
    """Time against the brute-force search of scikit-learn."""
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
    """Draw random unit rows, (N, D)."""
    return F.normalize(torch.randn(num_rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Compute the largest difference between the scores of two implementations.

    Raises:
        AssertionError: the difference is above 1e-5.
    """
    difference = (ours.double() - theirs.double()).abs().max().item()
    if difference > 1e-5:
        raise AssertionError(f"the scores differ by {difference}")
    return difference
