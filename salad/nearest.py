"""Search the nearest rows of each query exactly, in memory that does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

QUERIES, ROWS = 2**7, 2**16  # sides of a block of inner products: 32 MiB in float32

Best = tuple[Tensor, Tensor]  # inner products and row numbers, (Q, k) each


@torch.no_grad()
def nearest(queries: Tensor, rows: Tensor, *, k: int) -> Best:
    """Find the k rows with the largest inner product with each query, in no particular order.

    NaN counts as the largest value. Besides the result, the search needs memory for two blocks of `QUERIES` x `ROWS`
    numbers, 64 MiB in float32, for any N.

    Args:
        queries: (B, D).
        rows: (N, D).
        k: number of neighbours, in 1..N.

    Returns:
        The inner products and the row numbers, (B, k) each.
    """
    results = []
    for part in torch.split(queries, QUERIES):
        best = None
        for start, products in blocks(part, rows):
            best = merge(best, products, start=start, k=k)
        assert best is not None, "there are rows"
        results.append(best)
    values, index = (torch.cat(parts) for parts in zip(*results, strict=True))
    return values, index


def blocks(queries: Tensor, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Compute inner products of all queries with `ROWS` rows at a time.

    Args:
        queries: (Q, D), normally with Q up to `QUERIES`.
        rows: (N, D).

    Yields:
        The number of the first row of a block, and its inner products, (Q, `ROWS`) or fewer columns in the last.
    """
    for start in range(0, len(rows), ROWS):
        yield start, queries @ rows[start : start + ROWS].T


def merge(best: Best | None, products: Tensor, *, start: int, k: int) -> Best:
    """Merge the best rows so far with those of one more block.

    Args:
        best: result for the blocks before; None for the first block.
        products: inner products of the block, (Q, C).
        start: number of the block's first row.
        k: number of rows to keep.

    Returns:
        The k best rows so far, or all if there are fewer.
    """
    values, columns = products.topk(min(k, products.shape[1]), dim=1, sorted=False)
    index = columns + start
    if best is None:
        return values, index
    values, index = torch.cat([best[0], values], dim=1), torch.cat([best[1], index], dim=1)
    values, columns = values.topk(min(k, values.shape[1]), dim=1, sorted=False)
    return values, index.gather(1, columns)
