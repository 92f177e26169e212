"""Rows of a patch memory: coresets and whitening."""

import math

import pytest
import torch
from on_devices import NoWaiting
from torch.testing import assert_close

from salad.patch_rows import choose_coreset, whiten

pytestmark = pytest.mark.trains  # as the memory that is made of them


def test_a_cover_is_closer_to_all_rows_than_rows_drawn_at_random():
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.randn(10, 4, generator=generator)
    crowded = centres[torch.tensor([0] * 150 + list(range(1, 10)) * 5)]
    rows = crowded + torch.randn(len(crowded), 4, generator=generator)

    def radius(chosen: torch.Tensor) -> float:
        return torch.cdist(rows, rows[chosen]).amin(dim=1).max().item()

    cover = choose_coreset(rows, 12)

    assert len(set(cover.tolist())) == 12
    at_random = min(radius(torch.randperm(len(rows), generator=generator)[:12]) for _ in range(50))
    assert radius(cover) < at_random / 2


def test_a_cover_is_that_of_a_loop():
    rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    chosen = [min(range(40), key=lambda i: math.dist(rows[i], rows.mean(dim=0)))]
    while len(chosen) < 9:
        chosen.append(max(range(40), key=lambda i: min(math.dist(rows[i], rows[j]) for j in chosen)))

    assert choose_coreset(rows, 9).tolist() == chosen


class WithoutDoubles(torch.Tensor):
    """As on MPS: float64 is refused until the tensor is on the CPU."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        assert func is not torch.Tensor.double, "MPS has no float64"
        result = super().__torch_function__(func, types, args, kwargs)
        return result.as_subclass(torch.Tensor) if func is torch.Tensor.cpu else result


def test_whitening_needs_no_float64_on_the_device():
    covariance = torch.diag(torch.tensor([1.0, 4.0, 9.0]))
    assert_close(whiten(covariance.as_subclass(WithoutDoubles), least=0), whiten(covariance, least=0))


def test_a_coreset_is_chosen_without_waiting_for_a_gpu():
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    with NoWaiting():
        chosen = choose_coreset(rows, 5)
    assert len(set(chosen.tolist())) == 5
    with NoWaiting(), pytest.raises(AssertionError):
        rows[chosen[0]]
