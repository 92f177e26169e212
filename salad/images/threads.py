"""One function over many items, by threads that stay a bounded number of items ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ITEMS_AHEAD = 4  # that each thread may be in front of what was taken

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(function: Callable[[T], R], items: Iterable[T], *, num_threads: int) -> Iterator[R]:
    """What a function gives for each item, in their order; with 0 threads it runs in this one."""
    if num_threads == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
    under_way: deque[Future[R]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > ITEMS_AHEAD * num_threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def map_in_chunks(function: Callable[[T], R], items: list[T], *, num_threads: int, size: int = 256) -> list[R]:
    """The same for a function that takes microseconds, for which a future each would cost more than it does."""
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    parts = map_in_order(lambda chunk: list(map(function, chunk)), chunks, num_threads=num_threads)
    return [result for part in parts for result in part]
