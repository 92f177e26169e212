import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salad import nearest as search
from salad.nearest import nearest


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def naive(queries, rows, k):
    """The definition as a Python loop: of each query, every row's product in falling order, the first k."""
    products = [
        [sum(a * b for a, b in zip(query, row, strict=True)) for row in rows.tolist()] for query in queries.tolist()
    ]
    return [sorted(range(len(rows)), key=lambda i, one=one: -one[i])[:k] for one in products]


def assert_nearest(found, queries, rows, k):
    """The values are those of a full sort, and every row number goes with its value, none twice."""
    values, index = found
    every = queries @ rows.T
    torch.testing.assert_close(values.sort(dim=1, descending=True).values, every.sort(dim=1, descending=True)[0][:, :k])
    torch.testing.assert_close(every.gather(1, index), values)
    assert all(len(set(one)) == k for one in index.tolist())


@pytest.mark.parametrize("k", [1, 4, 39, 40])
@pytest.mark.parametrize(("num_queries", "num_rows"), [(1, 1), (2, 7), (100, 39), (3, 100)])
def test_equals_a_python_loop_whatever_the_blocks(monkeypatch, num_queries, num_rows, k):
    monkeypatch.setattr(search, "QUERIES", num_queries)
    monkeypatch.setattr(search, "ROWS", num_rows)
    queries, rows = draw(9, 5, seed=1, dtype=torch.float64), draw(40, 5, dtype=torch.float64)
    assert [set(one) for one in nearest(queries, rows, k=k)[1].tolist()] == [
        set(one) for one in naive(queries, rows, k)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_rows", "k"), [(1, 1), (31, 31), (1000, 150), (70_000, 7), (70_000, 5000)])
def test_equals_a_full_sort(num_rows, k, dtype):
    queries, rows = draw(9, 5, seed=1, dtype=dtype), draw(num_rows, 5, dtype=dtype)
    assert_nearest(nearest(queries, rows, k=k), queries, rows, k)


@settings(max_examples=60)
@given(
    num_queries=st.integers(1, 300),
    num_rows=st.integers(1, 300),
    share=st.floats(0, 1),
    block=st.integers(1, 300),
    levels=st.sampled_from([1, 2, 10**6]),
    seed=st.integers(0, 99),
)
def test_values_are_the_largest_and_no_row_comes_twice(num_queries, num_rows, share, block, levels, seed):
    queries, rows = ((draw(num, 3, seed=seed + num) * levels).round() / levels for num in (num_queries, num_rows))
    k = max(1, round(share * num_rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ROWS", block)
        assert_nearest(nearest(queries, rows, k=k), queries, rows, k)  # ties and zeros among them


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("block", [1000, 2**16])
def test_a_row_that_is_not_a_number_is_not_passed_over(monkeypatch, block, sign):
    monkeypatch.setattr(search, "ROWS", block)
    rows = draw(4000, 5)
    rows[7] = torch.copysign(torch.tensor(torch.nan), torch.tensor(float(sign)))
    values, index = nearest(draw(3, 5, seed=1), rows, k=4)
    assert values.isnan().sum(dim=1).tolist() == [1, 1, 1]
    assert (index == 7).any(dim=1).all()


def test_no_gradient():
    assert not nearest(draw(3, 5).requires_grad_(), draw(9, 5, seed=1), k=2)[0].requires_grad


PEAK = """
import resource, sys, torch
from salad.nearest import nearest

torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
queries, rows = torch.randn(256, 8), torch.randn(400_000, 8)
nearest(queries[:9], rows[:9], k=5)
before = peak()
nearest(queries, rows, k=5)
print(peak() - before)
"""


def test_memory_of_the_process_is_that_of_two_blocks():
    result = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 112 * 2**20  # two blocks: 64 MiB; all products of a block of queries at once: 195 MiB
