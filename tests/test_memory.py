import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from salad.memory import MemoryBank

pytestmark = pytest.mark.trains


def make_bank(num_rows=20, dim=6, *, temperature=0.1, momentum=0.5, seed=0, **options):
    torch.manual_seed(seed)
    return MemoryBank(num_rows, dim, temperature=temperature, momentum=momentum, **options)


def embeddings(num, dim=6, *, seed=7):
    return F.normalize(torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_update_formula(momentum):
    bank, z = make_bank(momentum=momentum), embeddings(3)
    old, index = bank.rows.clone(), [17, 0, 4]
    bank.update(torch.tensor(index), z)
    for i, row in enumerate(index):
        mixed = momentum * old[row] + (1 - momentum) * z[i]
        assert_close(bank.rows[row], mixed / mixed.norm())


def test_updated_rows_have_unit_length_and_the_others_stay():
    bank = make_bank()
    old, index = bank.rows.clone(), torch.tensor([2, 5, 11])
    bank.update(index, embeddings(3))
    others = torch.ones(20, dtype=torch.bool)
    others[index] = False
    assert_close(bank.rows[index].norm(dim=1), torch.ones(3))
    assert torch.equal(bank.rows[others], old[others])
    assert (old[index].norm(dim=1) - 1).abs().min() > 1e-4  # else the test would show nothing


def test_repeated_updates_converge_to_the_embedding():
    bank, z = make_bank(), embeddings(1)
    for _ in range(40):
        bank.update(torch.tensor([3]), z)
    assert_close(bank.rows[3], z[0])


def test_update_neither_needs_nor_leaves_a_graph():
    bank, z = make_bank(), embeddings(2).requires_grad_()
    bank.update(torch.tensor([0, 1]), z)
    assert not bank.rows.requires_grad


def test_update_keeps_the_type_of_the_rows():
    bank = make_bank()
    bank.update(torch.tensor([0]), embeddings(1).double())
    assert bank.rows.dtype == torch.float32
    assert make_bank(dtype=torch.float64).rows.dtype == torch.float64


def test_rows_start_uniform_with_about_unit_length():
    rows = make_bank(400, 200).rows
    bound = math.sqrt(3 / 200)
    assert rows.abs().max() <= bound
    assert rows.min() < -0.999 * bound
    assert rows.max() > 0.999 * bound
    assert_close(rows.square().mean(), torch.tensor(1 / 200), rtol=0.02, atol=0)


def test_seed_decides_the_start():
    assert torch.equal(make_bank(seed=1).rows, make_bank(seed=1).rows)
    assert not torch.equal(make_bank(seed=1).rows, make_bank(seed=2).rows)


def test_state_dict_has_the_published_names():
    state = make_bank(temperature=0.07, momentum=0.6).state_dict()
    assert list(state) == ["memory", "params"]
    assert state["memory"].shape == (20, 6)
    assert_close(state["params"], torch.tensor([0.07, 0.6]))


def test_round_trip(tmp_path):
    bank = make_bank(temperature=0.07, momentum=0.6)
    torch.save(bank.state_dict(), tmp_path / "bank.pt")
    found = MemoryBank.from_state_dict(torch.load(tmp_path / "bank.pt", weights_only=True))
    assert torch.equal(found.rows, bank.rows)
    assert (found.temperature, found.momentum) == (0.07, 0.6)  # not 0.07000000029...


@pytest.mark.parametrize("temperature", [0.0123456, 3e-7])
def test_round_trip_of_a_fine_temperature(temperature):
    found = MemoryBank.from_state_dict(make_bank(temperature=temperature).state_dict())
    assert found.temperature == temperature


def test_loading_a_bank_draws_no_random_numbers():
    state = make_bank().state_dict()
    before = torch.get_rng_state()
    MemoryBank.from_state_dict(state)
    assert torch.equal(torch.get_rng_state(), before)
