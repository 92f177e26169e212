"""Exact search: the rows most similar to each query, in memory that does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

QUERIES = 2**9  # compared at a time
MIN_COLUMNS, MAX_COLUMNS = 2**14, 2**16  # rows they are compared with at a time: at most 128 MiB in float32
COLUMNS_FOR_EACH_OF_K = 2**9  # fewer, and picking the k best of every block would take longer than the products
TILE = 2**10  # rows of one matrix product on a CPU, so that what it makes lies in the cache
SLICE = 2**7  # queries whose best are picked at a time on a CPU, so that their candidates lie in the cache
GROUP = 2**5  # neighbouring columns for which their maximum stands: 128 bytes
FAN = 4  # columns far apart for which their maximum stands
INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}

Best = tuple[Tensor, Tensor]  # values and columns, or rows: (Q, k) each


@torch.no_grad()
def nearest(queries: Tensor, rows: Tensor, *, k: int) -> Best:
    """The k rows of largest inner product with each query, in no particular order.

    Args:
        queries: (B, D).
        rows: (N, D).
        k: in 1..N.

    Returns:
        The inner products and the row numbers, (B, k) each.
    """
    comparison = Comparison(rows, k=k)
    found = [comparison.nearest(part) for part in torch.split(queries, QUERIES)]
    values, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, index


class Comparison:
    """Inner products of some queries at a time with all rows, block by block, in one buffer.

    Args:
        rows: (N, D).
        k: how many of the largest are wanted of each query.
    """

    def __init__(self, rows: Tensor, *, k: int) -> None:
        limit = max(MIN_COLUMNS, min(COLUMNS_FOR_EACH_OF_K * k, MAX_COLUMNS)) if rows.is_cpu else MAX_COLUMNS
        num_blocks = -(-len(rows) // limit)
        self.rows = rows
        self.k = k
        self.num_columns = _padded(-(-len(rows) // num_blocks))
        self.has_nan = not bool(rows.sum().isfinite())  # or infinite entries
        self.tile = TILE if rows.is_cpu else self.num_columns
        self._buffer = rows.new_empty(QUERIES * self.num_columns)

    def blocks(self, queries: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Number of the first row of each block, and the inner products with its rows.

        Args:
            queries: (Q, D), Q at most `QUERIES`.

        Yields:
            (Q, C), C a multiple of `GROUP`; columns beyond the last row are -inf. The next block takes its place.
        """
        for start in range(0, len(self.rows), self.num_columns):
            rows = self.rows[start : start + self.num_columns]
            shape = len(queries), _padded(len(rows))
            block = self._buffer[: shape[0] * shape[1]].view(shape)
            block[:, len(rows) :] = -torch.inf
            for first in range(0, len(rows), self.tile):
                tile = rows[first : first + self.tile]
                torch.mm(queries, tile.T, out=block[:, first : first + len(tile)])
            yield start, block

    def nearest(self, queries: Tensor) -> Best:
        """As the function of this name, for up to `QUERIES` queries."""
        best = None
        for start, block in self.blocks(queries):
            best = self.merge(best, block, start=start)
        assert best is not None, "there are rows"
        return best

    def merge(self, best: Best | None, block: Tensor, *, start: int) -> Best:
        """The best so far, by row numbers, after one more block; fewer than k while there were fewer rows."""
        k = min(self.k, len(self.rows) - start, self.num_columns)
        values, columns = largest(block, k=k, has_nan=self.has_nan)
        if best is None:
            return values, columns + start
        values, index = torch.cat([best[0], values], dim=1), torch.cat([best[1], columns + start], dim=1)
        values, place = _topk(values, min(self.k, values.shape[1]))
        return values, index.gather(1, place)


def _padded(num_columns: int) -> int:
    return -(-num_columns // GROUP) * GROUP


def _topk(values: Tensor, k: int) -> Best:
    found = values.topk(k, dim=1, sorted=False)
    return found.values, found.indices


def largest(block: Tensor, *, k: int, has_nan: bool = True) -> Best:
    """The k largest values of each row and their columns, in no particular order: torch.topk, but faster on a CPU.

    Args:
        block: (Q, C), contiguous.
        k: in 1..C.
        has_nan: whether some entries, but not all of a row, may be NaN, which counts as the largest.
    """
    if not block.is_cpu:
        return _topk(block, k)
    found = [_largest_of_slice(part, k, has_nan=has_nan) for part in torch.split(block, SLICE)]
    values, columns = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, columns


def _largest_of_slice(part: Tensor, k: int, *, has_nan: bool) -> Best:
    """Floats from zero up keep their order when their bits are read as integers, which compare faster."""
    if part.dtype in INTEGERS and not has_nan:
        bits, columns = _through_groups(part.view(INTEGERS[part.dtype]), k)
        values = bits.view(part.dtype)
        if bool((values >= 0).all()):
            return values, columns
    return _through_groups(part, k)


def _through_groups(values: Tensor, k: int) -> Best:
    """The k largest lie in those k groups of columns whose maxima are largest."""
    num_queries, num_columns = values.shape
    num_groups = num_columns // GROUP
    if num_columns % GROUP or num_groups < 2 * k:
        return _through_fans(values, k)
    groups = _through_fans(values.view(num_queries, num_groups, GROUP).amax(dim=2), k)[1]
    places = groups + num_groups * torch.arange(num_queries)[:, None]
    candidates = values.view(-1, GROUP).index_select(0, places.flatten()).view(num_queries, -1)
    found, columns = _through_fans(candidates, k)
    return found, groups.gather(1, columns // GROUP) * GROUP + columns % GROUP


def _through_fans(values: Tensor, k: int) -> Best:
    """The same with groups of columns that lie far apart, so that their maxima are taken a whole row at a time."""
    num_queries, num_columns = values.shape
    width = num_columns // FAN
    if num_columns % FAN or width < 2 * k:
        return _topk(values, k)
    best = _through_fans(values.view(num_queries, FAN, width).amax(dim=1), k)[1]
    columns = (best[:, None, :] + width * torch.arange(FAN)[:, None]).flatten(1)
    found, places = _topk(values.gather(1, columns), k)
    return found, columns.gather(1, places)
