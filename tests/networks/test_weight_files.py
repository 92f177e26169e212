"""State dicts from files of several kinds, and what keeps them from filling a network."""

import pytest
import torch
from torch import nn

from salad.errors import InputError
from salad.networks.weight_files import fill, read_state


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def assert_same(state, other):
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    state = network().state_dict()
    safetensors.save_file(state, tmp_path / "weights")  # known by its content, not by its name
    assert_same(read_state(tmp_path / "weights"), state)


def test_damaged_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    content = safetensors.save(network().state_dict())
    (tmp_path / "weights").write_bytes(content[:-5])
    with pytest.raises(InputError, match="weights: damaged") as caught:
        read_state(tmp_path / "weights")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_state_dict_within_a_file_of_a_training(tmp_path, key):
    state = network().state_dict()
    torch.save({"epoch": 3, key: state}, tmp_path / "weights")
    assert_same(read_state(tmp_path / "weights"), state)


def test_all_tensors_are_filled_and_others_ignored():
    state = {name: torch.rand_like(one.float()) for name, one in network().state_dict().items() if one.dim()}
    filled = network()
    digest = fill(filled, {**state, "head.weight": torch.ones(3)})
    now = {name: tensor for name, tensor in filled.state_dict().items() if name in state}
    assert_same(now, state)
    assert digest == fill(network(), state) != fill(network(), {**state, "2.bias": torch.zeros(2)})


def test_the_first_tensors_that_do_not_fit_are_named():
    state = network().state_dict()
    del state["0.weight"]
    state |= {"1.weight": torch.zeros(5), "1.bias": torch.zeros(4, dtype=torch.long)}
    with pytest.raises(InputError) as caught:
        fill(network(), {**state, "2.weight": torch.full((2, 4), torch.nan), "2.bias": torch.zeros(1)})
    assert str(caught.value) == (
        "0.weight is missing, 1.weight has shape (5,), not (4,), 1.bias is of torch.int64, not of torch.float32, and 2 "
        "more do not fit"
    )
    with pytest.raises(InputError, match="^2.weight has values that are not finite$"):
        fill(network(), {**network().state_dict(), "2.weight": torch.full((2, 4), torch.nan)})
