"""Map a function over many items in threads, a bounded number of items ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ITEMS_AHEAD = 4  # items a thread that may be submitted before the oldest result is taken

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(function: Callable[[T], R], items: Iterable[T], *, num_threads: int) -> Iterator[R]:
    """Yield the result of a function for each item, in order; with 0 threads, in the calling thread."""
    if num_threads == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ITEMS_AHEAD * num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def map_in_chunks(function: Callable[[T], R], items: list[T], *, num_threads: int, size: int = 256) -> list[R]:
    """Map a fast function over items in chunks of `size`, as a future for each item would cost more than a call."""
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    results = map_in_order(lambda chunk: list(map(function, chunk)), chunks, num_threads=num_threads)
    return [result for chunk in results for result in chunk]
