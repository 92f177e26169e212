"""Measure processor time and memory of a call."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import TypeVar

from benchmarks.peers.fitted import Cost

T = TypeVar("T")
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def measured(work: Callable[[], T], *, num_images: int) -> tuple[T, Cost]:
    """Call a function, and return its result and its cost."""
    before = _cpu_seconds()
    result = work()
    peak = max(resource.getrusage(who).ru_maxrss for who in WHO)
    unit = 1 if sys.platform == "darwin" else 1024
    return result, Cost(cpu_seconds=_cpu_seconds() - before, peak_bytes=peak * unit, num_images=num_images)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in WHO]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
