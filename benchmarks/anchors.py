"""Benchmark `anchors`: discovery of anchors in a memory bank, in chunks and in a loop over rows."""

from __future__ import annotations

import resource
import sys

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.compare import Timing, compare, seconds_of
from benchmarks.knn import DIM, draw_rows
from salad.anchors import discover_anchors

TEMPERATURE, NUM_NEIGHBOURS = 0.1, 10
NUM_LOOPED, SIZES, NUM_NIH = 9_000, (10_000, 20_000, 40_000, 80_000), 112_120
LOOP = "a Python loop over the rows: its similarities, softmax, entropy and topk, one row at a time"


def run(*, turns: int) -> list[Timing]:
    """Time the discovery against the loop, then its time and memory for growing N."""
    rows = draw_rows(NUM_LOOPED, seed=0)
    ours = discover_anchors(rows, num_anchors=NUM_LOOPED // 10, num_neighbours=NUM_NEIGHBOURS, temperature=TEMPERATURE)
    anchors, neighbours = loop_anchors(rows, num_anchors=NUM_LOOPED // 10)
    if not torch.equal(ours.anchors, anchors) or not torch.equal(
        ours.neighbours.sort().values, neighbours.sort().values
    ):
        raise AssertionError("both sides must find the same anchors and neighbours")
    timings = [
        compare(
            f"anchors of {NUM_LOOPED:,} rows of {DIM}",
            lambda: find(rows),
            lambda: loop_anchors(rows, num_anchors=NUM_LOOPED // 10),
            baseline=LOOP,
            turns=turns,
        )
    ]
    for num_rows in (*SIZES, NUM_NIH):
        many = draw_rows(num_rows, seed=1)
        before = peak_mib()
        seconds = seconds_of(lambda many=many: find(many))  # type: ignore[misc]
        facts: dict[str, float | str] = {"MiB more at the peak": peak_mib() - before}
        timings.append(Timing(task=f"anchors of {num_rows:,} rows", ours=[seconds], facts=facts))
    return timings


def find(rows: Tensor) -> None:
    """Find anchors as in a training round."""
    discover_anchors(rows, num_anchors=len(rows) // 10, num_neighbours=NUM_NEIGHBOURS, temperature=TEMPERATURE)


def loop_anchors(rows: Tensor, *, num_anchors: int) -> tuple[Tensor, Tensor]:
    """Find anchors (A,) and their neighbours (A, k), one row at a time."""
    entropy, neighbours = torch.empty(len(rows)), torch.empty(len(rows), NUM_NEIGHBOURS, dtype=torch.long)
    for i in range(len(rows)):
        similarities = rows[i : i + 1] @ rows.t()
        probabilities = F.softmax(similarities / TEMPERATURE, dim=1)
        entropy[i] = -(probabilities * probabilities.log()).sum()
        similarities[0, i] = -torch.inf
        neighbours[i] = similarities.topk(NUM_NEIGHBOURS, dim=1).indices[0]
    anchors = entropy.sort(stable=True).indices[:num_anchors].sort().values
    return anchors, neighbours[anchors]


def peak_mib() -> float:
    """Measure the peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
