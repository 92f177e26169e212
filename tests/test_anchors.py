import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from salad import nearest as search
from salad.anchors import Softmax, discover_anchors
from salad.errors import InputError


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def discover(rows, *, num_anchors=9, num_neighbours=4, temperature=0.1):
    return discover_anchors(rows, num_anchors=num_anchors, num_neighbours=num_neighbours, temperature=temperature)


def naive_anchors(rows, *, num_anchors, num_neighbours, temperature):
    """The definition as a Python loop: {anchor: set of neighbours} and the entropies."""
    entropies, nearest = [], []
    for i, row in enumerate(rows.tolist()):
        similarities = [sum(a * b for a, b in zip(row, other, strict=True)) for other in rows.tolist()]
        weights = [math.exp(s / temperature) for s in similarities]
        shares = [w / sum(weights) for w in weights]
        entropies.append(-sum(p * math.log(p) for p in shares))
        others = sorted((j for j in range(len(rows)) if j != i), key=lambda j: -similarities[j])  # noqa: B023
        nearest.append(set(others[:num_neighbours]))
    lowest = sorted(range(len(rows)), key=entropies.__getitem__)[:num_anchors]
    return {i: nearest[i] for i in lowest}, entropies


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("num_anchors", "num_neighbours"), [(1, 1), (9, 4), (30, 29)])
def test_equals_python_loop(seed, num_anchors, num_neighbours):
    rows = unit(30, 5, seed=seed)
    options = {"num_anchors": num_anchors, "num_neighbours": num_neighbours, "temperature": 0.2}
    expected, entropies = naive_anchors(rows, **options)
    found = discover_anchors(rows, **options)
    assert found.entropy.tolist() == pytest.approx(entropies, rel=1e-10)
    assert found.anchors.tolist() == sorted(expected)
    for anchor, neighbours in zip(found.anchors.tolist(), found.neighbours.tolist(), strict=True):
        assert set(neighbours) == expected[anchor]
        assert len(neighbours) == num_neighbours


@pytest.mark.parametrize(("num_queries", "num_rows"), [(1, 3), (7, 64), (200, 128), (64, 199)])
def test_blocks_change_nothing(monkeypatch, num_queries, num_rows):
    rows = unit(200, 5)
    whole = discover(rows)
    set_blocks(monkeypatch, num_queries=num_queries, num_rows=num_rows)
    chunked = discover(rows)
    assert_close(chunked.entropy, whole.entropy, rtol=1e-12, atol=0)
    assert torch.equal(chunked.anchors, whole.anchors)
    assert torch.equal(chunked.neighbours, whole.neighbours)


def set_blocks(monkeypatch, *, num_queries, num_rows):
    monkeypatch.setattr(search, "QUERIES", num_queries)
    monkeypatch.setattr(search, "ROWS", num_rows)


class LargestTensor(TorchDispatchMode):
    """Notes the size in bytes of the largest tensor that any operation returns."""

    num_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(one, torch.Tensor):
                self.num_bytes = max(self.num_bytes, one.untyped_storage().nbytes())
        return result


def test_no_tensor_is_larger_than_a_block(monkeypatch):
    rows = unit(1000, 4)  # all similarities at once: 8 MB
    set_blocks(monkeypatch, num_queries=64, num_rows=128)
    with LargestTensor() as largest:
        discover(rows)
    assert largest.num_bytes == 64 * 128 * 8


PEAK = """
import resource, sys, torch
from salad.anchors import discover_anchors

torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
draw = lambda n: torch.nn.functional.normalize(torch.randn(n, 8), dim=1)
find = lambda rows: discover_anchors(rows, num_anchors=99, num_neighbours=10, temperature=0.1)
find(draw(1000))
rows = draw(16_000)
before = peak()
find(rows)
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_of_the_process_stays_small():
    result = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 64 * 2**20  # all similarities at once: 977 MiB


def test_permuting_the_rows_permutes_the_result():
    rows, order = unit(25, 4), torch.randperm(25, generator=torch.Generator().manual_seed(1))
    plain, permuted = discover(rows), discover(rows[order])
    assert_close(permuted.entropy, plain.entropy[order], rtol=1e-12, atol=0)
    new_of_old = order.argsort()
    expected = {
        new_of_old[anchor].item(): set(new_of_old[neighbours].tolist())
        for anchor, neighbours in zip(plain.anchors, plain.neighbours, strict=True)
    }
    pairs = zip(permuted.anchors.tolist(), permuted.neighbours.tolist(), strict=True)
    assert {anchor: set(neighbours) for anchor, neighbours in pairs} == expected


@pytest.mark.parametrize("num_neighbours", [1, 5, 19])
def test_no_row_is_its_own_neighbour(num_neighbours):
    rows = unit(10, 2).repeat(2, 1)  # every row has a twin, exactly as similar as itself
    found = discover(rows, num_anchors=20, num_neighbours=num_neighbours)
    assert not (found.neighbours == found.anchors[:, None]).any()
    twins = (found.anchors + 10) % 20
    assert (found.neighbours[:, 0] == twins).all()


def test_rows_in_a_crowd_have_higher_entropy():
    lonely = torch.eye(6, dtype=torch.float64)
    crowd = F.normalize(torch.eye(6, dtype=torch.float64)[:1] + 0.01 * unit(14, 6), dim=1)
    found = discover(torch.cat([lonely, crowd]), num_anchors=5)
    assert found.anchors.tolist() == [1, 2, 3, 4, 5]
    assert found.entropy[6:].min() > found.entropy[1:6].max()


def test_entropy_bounds():
    rows = unit(30, 3)
    entropy = discover(rows).entropy
    assert (entropy >= 0).all()
    assert (entropy <= math.log(30)).all()
    same = discover(rows[:1].expand(30, -1)).entropy
    assert_close(same, torch.full((30,), math.log(30), dtype=torch.float64))


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.05, 10.0])
def test_any_temperature_and_any_length_of_rows(temperature):
    rows = unit(90, 3) * torch.linspace(0.2, 3, 90, dtype=torch.float64)[:, None]
    logits = rows @ rows.T / temperature
    expected = -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        found = discover(rows.to(dtype), temperature=temperature).entropy
        assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("first", [0, 30, 59])
def test_softmax_in_parts(first):
    logits = torch.randn(4, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).sort().values * 3
    logits[1], logits[2] = logits[1].flip(0), logits[2, torch.randperm(60, generator=torch.Generator().manual_seed(1))]
    expected = -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)
    softmax = Softmax(logits[:, first].clone())
    for part in torch.split(logits.clone(), 13, dim=1):
        softmax.add(part)
    assert_close(softmax.entropy, expected, rtol=1e-10, atol=1e-12)


def test_position_says_where_a_row_stands():
    found = discover(unit(30, 3))
    for row, place in enumerate(found.position.tolist()):
        assert (found.anchors[place] == row) if place >= 0 else row not in found.anchors
    assert (found.position >= 0).sum() == 9


def test_no_gradient():
    found = discover(unit(12, 3).requires_grad_())
    assert not found.entropy.requires_grad


@pytest.mark.parametrize("num_anchors", [0, 13])
def test_too_few_or_too_many_anchors(num_anchors):
    with pytest.raises(InputError, match=rf"num_anchors is {num_anchors}, .*1\.\.12"):
        discover(unit(12, 3), num_anchors=num_anchors)


@pytest.mark.parametrize("num_neighbours", [0, 12])
def test_too_few_or_too_many_neighbours(num_neighbours):
    with pytest.raises(InputError, match=f"num_neighbours is {num_neighbours}, .*11 others"):
        discover(unit(12, 3), num_neighbours=num_neighbours)
