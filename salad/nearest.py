"""Exact search: the rows most similar to each query, in memory that does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

QUERIES, ROWS = 2**7, 2**16  # compared at a time: 32 MiB of inner products in float32

Best = tuple[Tensor, Tensor]  # inner products and row numbers, (Q, k) each


@torch.no_grad()
def nearest(queries: Tensor, rows: Tensor, *, k: int) -> Best:
    """The k rows of largest inner product with each query, in no particular order; NaN counts as the largest.

    Beside the result it takes two blocks of `QUERIES` x `ROWS` numbers, 64 MiB in float32, whatever N.

    Args:
        queries: (B, D).
        rows: (N, D).
        k: in 1..N.

    Returns:
        The inner products and the row numbers, (B, k) each.
    """
    found = []
    for part in torch.split(queries, QUERIES):
        best = None
        for start, products in blocks(part, rows):
            best = merge(best, products, start=start, k=k)
        assert best is not None, "there are rows"
        found.append(best)
    values, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, index


def blocks(queries: Tensor, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Inner products of all queries with `ROWS` rows at a time.

    Args:
        queries: (Q, D), as a rule `QUERIES` of them.
        rows: (N, D).

    Yields:
        The number of the first row of each block, and its inner products, (Q, `ROWS`) or less for the last.
    """
    for start in range(0, len(rows), ROWS):
        yield start, queries @ rows[start : start + ROWS].T


def merge(best: Best | None, products: Tensor, *, start: int, k: int) -> Best:
    """The k best rows so far after one more block, or all while there were fewer.

    Args:
        best: of the blocks before; None for the first.
        products: of the block, (Q, C).
        start: number of its first row.
        k: how many are wanted.
    """
    values, columns = products.topk(min(k, products.shape[1]), dim=1, sorted=False)
    index = columns + start
    if best is None:
        return values, index
    values, index = torch.cat([best[0], values], dim=1), torch.cat([best[1], index], dim=1)
    values, places = values.topk(min(k, values.shape[1]), dim=1, sorted=False)
    return values, index.gather(1, places)
