import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salad import search
from salad.search import largest, nearest


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def assert_nearest(found, queries, rows, k):
    """The values are those of a full sort, and every row number goes with its value, none twice."""
    values, index = found
    every = queries @ rows.T
    torch.testing.assert_close(values.sort(dim=1, descending=True).values, every.sort(dim=1, descending=True)[0][:, :k])
    torch.testing.assert_close(every.gather(1, index), values)
    assert all(len(set(one)) == k for one in index.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_rows", "k"), [(1, 1), (31, 31), (1000, 1), (1000, 150), (5003, 7), (20_000, 150)])
def test_equals_a_full_sort(num_rows, k, dtype):
    queries, rows = draw(9, 5, seed=1, dtype=dtype), draw(num_rows, 5, dtype=dtype)
    assert_nearest(nearest(queries, rows, k=k), queries, rows, k)


@pytest.mark.parametrize(("num_queries", "num_columns", "tile"), [(1, 32, 8), (4, 64, 64), (50, 4096, 100)])
@pytest.mark.parametrize("k", [1, 40, 999])
def test_blocks_change_nothing(monkeypatch, num_queries, num_columns, tile, k):
    queries, rows = draw(9, 5, seed=1), draw(999, 5)
    monkeypatch.setattr(search, "QUERIES", num_queries)
    monkeypatch.setattr(search, "MIN_COLUMNS", num_columns)
    monkeypatch.setattr(search, "COLUMNS_FOR_EACH_OF_K", 0)
    monkeypatch.setattr(search, "TILE", tile)
    assert_nearest(nearest(queries, rows, k=k), queries, rows, k)


def test_rows_that_all_point_away():
    queries, rows = draw(9, 5).abs(), -draw(4000, 5, seed=1).abs()
    assert_nearest(nearest(queries, rows, k=20), queries, rows, 20)


def test_no_row_is_found_twice_among_equal_ones():
    queries, rows = draw(3, 5), draw(1, 5, seed=1).expand(4000, -1)
    assert_nearest(nearest(queries, rows, k=50), queries, rows, 50)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_row_that_is_not_a_number_is_not_passed_over(sign):
    rows = draw(4000, 5)
    rows[7] = torch.copysign(torch.tensor(torch.nan), torch.tensor(float(sign)))
    values, index = nearest(draw(3, 5, seed=1), rows, k=4)
    assert values.isnan().sum(dim=1).tolist() == [1, 1, 1]
    assert (index == 7).any(dim=1).all()


@settings(deadline=None, max_examples=60)
@given(
    num_columns=st.integers(1, 3000),
    share=st.floats(0, 1),
    shift=st.floats(-4, 4),
    levels=st.sampled_from([2, 5, 10**6]),
    seed=st.integers(0, 99),
)
def test_largest_is_topk(num_columns, share, shift, levels, seed):
    block = ((draw(5, num_columns, seed=seed) + shift) * levels).round() / levels  # ties, zeros
    k = max(1, round(share * num_columns))
    values, columns = largest(block, k=k, has_nan=False)
    assert torch.equal(values.sort(dim=1, descending=True).values, block.topk(k, dim=1).values)
    assert torch.equal(block.gather(1, columns), values)
    assert all(len(set(one)) == k for one in columns.tolist())
