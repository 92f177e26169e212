"""Rates of the searches in the memory bank: kNN scores and anchors."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.anchors import NUM_NEIGHBOURS, TEMPERATURE
from benchmarks.gpu.notes import Setting, free_memory, peak_gib, synchronize
from benchmarks.gpu.timing import seconds_of_call
from benchmarks.knn import DIM
from salad import nearest
from salad.anchors import discover_anchors
from salad.scores.knn import knn_angle

NUM_QUERIES, NUM_ROWS, K = 25_596, 112_120, 150
QUERIES = (128, 512, 2048)  # sides of a block of inner products; the first is that of the program


def draw_unit_rows(setting: Setting, full: int) -> Tensor:
    """Draw random unit rows on the device, (N, D)."""
    return F.normalize(torch.randn(setting.size(full, 500), DIM, device=setting.on), dim=1)


def knn_scores(setting: Setting) -> dict[str, Any]:
    """Measure the scores of the test images of NIH against its training rows, by the queries of a block."""
    rows, queries = draw_unit_rows(setting, NUM_ROWS), draw_unit_rows(setting, NUM_QUERIES)
    found: dict[str, Any] = {"rows": len(rows), "queries": len(queries), "k": K}
    for size in QUERIES:
        free_memory(setting.on)
        with patch.object(nearest, "QUERIES", size):
            seconds = seconds_of_call(lambda: knn_angle(queries, rows, k=K), setting.on, times=1, warm_up=1)
        found[f"{size} queries a block"] = {"seconds": seconds, "peak GiB": peak_gib(setting.on)}
    return found


def anchors_of(setting: Setting, *, num_rows: int) -> dict[str, Any]:
    """Measure the discovery of anchors, by the queries of a block, as far as the time goes."""
    rows = draw_unit_rows(setting, num_rows)
    found: dict[str, Any] = {"rows": len(rows)}
    discover(rows[:400])  # loads the kernels
    for size in reversed(QUERIES):  # the fastest first, in case that time runs out
        if "seconds" in found and setting.left < 3 * found["seconds"]:
            break
        free_memory(setting.on)
        with patch.object(nearest, "QUERIES", size):
            found["seconds"] = seconds_of_call(lambda: discover(rows), setting.on, times=1, warm_up=0)
        found[f"{size} queries a block"] = {"seconds": found["seconds"], "peak GiB": peak_gib(setting.on)}
    synchronize(setting.on)
    return found


def discover(rows: Tensor) -> None:
    """Find anchors as in the first round with anchors."""
    discover_anchors(rows, num_anchors=len(rows) // 10, num_neighbours=NUM_NEIGHBOURS, temperature=TEMPERATURE)
