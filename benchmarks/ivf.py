"""`ivf`: scores against a memory of a million rows, through an index of faiss and exactly."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.compare import Timing, compare
from benchmarks.knn import DIM, K
from salad.ivf import InvertedFile
from salad.scoring import knn_angle

NUM_ROWS, NUM_QUERIES = 1_000_000, 2_000
ALL_QUERIES = 25_596  # of which those that are timed are a part, so that as few are compared exactly as then
NUM_FACTORS = 20  # embeddings of radiographs vary in few directions; without any order no index could be of use


def run(*, turns: int) -> list[Timing]:
    """Build the index once, then time its search against the exact one."""
    directions = torch.randn(NUM_FACTORS, DIM, generator=torch.Generator().manual_seed(0))
    rows, queries = draw(NUM_ROWS, directions, seed=1), draw(NUM_QUERIES, directions, seed=2)
    start = time.perf_counter()
    index = InvertedFile(rows, k=K, num_queries=ALL_QUERIES, seed=0)
    seconds = time.perf_counter() - start
    timing = compare(
        f"kNN scores of {NUM_QUERIES:,} queries, {NUM_ROWS:,} rows, k {K}, --knn faiss",
        lambda: knn_angle(queries, rows, k=K, search=index),
        lambda: knn_angle(queries, rows, k=K),
        baseline="exact search",
        turns=turns,
    )
    lists = f"{index.num_looked_through} of {index.num_lists}"
    facts: dict[str, float | str] = {"seconds to build": seconds, "recall": index.recall, "lists": lists}
    return [replace(timing, facts=facts)]


def draw(num: int, directions: Tensor, *, seed: int) -> Tensor:
    """Unit vectors of normally distributed factors and a tenth of noise, (num, DIM)."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(num, NUM_FACTORS, generator=generator) @ directions / NUM_FACTORS**0.5
    return F.normalize(factors + 0.1 * torch.randn(num, DIM, generator=generator), dim=1)
