import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch.testing import assert_close

import salad.scores.knn
import salad.scores.prototype
from salad.errors import InputError
from salad.scores.knn import DEFAULT_K, choose_k, knn_angle
from salad.scores.prototype import weighted_prototype


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("k", [1, 7, 50])
def test_knn_angle_equals_sklearn(k):
    rows, z = unit(50, 8), unit(12, 8, seed=1)
    distances, _ = NearestNeighbors(n_neighbors=k, metric="cosine").fit(rows).kneighbors(z)
    expected = (1 - torch.from_numpy(distances)).arccos().mean(dim=1) / math.pi
    assert_close(knn_angle(z, rows, k=k), expected)


def test_angles_by_hand():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    z = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    assert_close(knn_angle(z, rows, k=1), torch.tensor([0.0, 0.5]))
    assert_close(knn_angle(z, rows, k=3), torch.tensor([0.5, (0.5 + 0.5 + 1) / 3]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_vectors_are_at_angle_zero(dtype):
    rows = unit(1000, 200).to(dtype)
    scores = knn_angle(rows, rows, k=1)
    assert not scores.isnan().any()
    # arccos near 1 turns a rounding error of e in the cosine into an angle of sqrt(2 e)
    assert scores.max() <= math.sqrt(2 * 8 * torch.finfo(dtype).eps) / math.pi


def test_opposite_vectors_are_at_angle_one():
    rows = unit(1000, 200).float()
    scores = torch.cat([knn_angle(-row[None], row[None], k=1) for row in rows[:50]])
    assert not scores.isnan().any()
    assert scores.min() > 0.999


def test_scores_grow_with_k():
    rows, z = unit(30, 4), unit(5, 4, seed=1)
    scores = torch.stack([knn_angle(z, rows, k=k) for k in range(1, 31)])
    assert (scores.diff(dim=0) >= -1e-12).all()


def test_order_of_the_rows_does_not_count():
    rows, z = unit(30, 4), unit(5, 4, seed=1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    for score in (knn_angle(z, rows, k=9), weighted_prototype(z, rows, k=9, temperature=0.1)):
        assert score.shape == (5,)
    assert_close(knn_angle(z, rows[order], k=9), knn_angle(z, rows, k=9))
    assert_close(
        weighted_prototype(z, rows[order], k=9, temperature=0.1), weighted_prototype(z, rows, k=9, temperature=0.1)
    )


@pytest.mark.parametrize("score", [knn_angle, lambda z, rows, k: weighted_prototype(z, rows, k=k, temperature=0.1)])
def test_k_above_the_number_of_rows(score):
    with pytest.raises(InputError, match=r"(?s)--k is 31\b.*\b30\b"):
        score(unit(5, 4), unit(30, 4), k=31)


def test_default_k_shrinks():
    assert choose_k(None, num_rows=DEFAULT_K + 1) == DEFAULT_K == 100
    assert choose_k(None, num_rows=7) == 7
    assert choose_k(7, num_rows=7) == 7


def naive_prototype(z, rows, *, k, temperature):
    scores = []
    for one in z.tolist():
        cosines = sorted(((sum(a * b for a, b in zip(one, r, strict=True)), r) for r in rows.tolist()), reverse=True)
        weights = [math.exp(cosine / temperature) for cosine, _ in cosines[:k]]
        total = [
            sum(weight * row[d] for weight, (_, row) in zip(weights, cosines, strict=False)) for d in range(len(one))
        ]
        scores.append(1 - sum(a * b for a, b in zip(one, total, strict=True)) / math.hypot(*total))
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (7, 1.0), (30, 0.05)])
def test_weighted_prototype_equals_naive_loop(k, temperature):
    rows, z = unit(30, 4), unit(6, 4, seed=1)
    expected = naive_prototype(z, rows, k=k, temperature=temperature)
    assert_close(weighted_prototype(z, rows, k=k, temperature=temperature), expected)


def test_weighted_prototype_ignores_rows_beyond_the_k_nearest():
    rows, z = unit(30, 4), unit(6, 4, seed=1)
    nearest = (z[0] @ rows.T).topk(5).indices
    assert_close(
        weighted_prototype(z[:1], rows, k=5, temperature=0.1),
        weighted_prototype(z[:1], rows[nearest], k=5, temperature=0.1),
    )


@pytest.mark.parametrize("num_queries", [1, 4])
def test_parts_change_nothing(monkeypatch, num_queries):
    rows, z = unit(30, 4), unit(11, 4, seed=1)
    whole = knn_angle(z, rows, k=5), weighted_prototype(z, rows, k=5, temperature=0.1)
    for module in (salad.scores.knn, salad.scores.prototype):
        monkeypatch.setattr(module, "MAX_NEIGHBOURS_HELD", num_queries * 5)
    assert_close((knn_angle(z, rows, k=5), weighted_prototype(z, rows, k=5, temperature=0.1)), whole)


def test_scores_carry_no_gradient():
    z = unit(3, 4).requires_grad_()
    assert not knn_angle(z, unit(9, 4, seed=1), k=2).requires_grad
    assert not weighted_prototype(z, unit(9, 4, seed=1), k=2, temperature=0.1).requires_grad
