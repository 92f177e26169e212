"""Parts of a network: what losses train, what scores use, and the modules that compute them."""

import pytest
import torch
from torch.testing import assert_close

from salad.config.parts import modules_of, trained_parts, used_parts
from salad.losses import ANOMALY_HEAD, EMBEDDINGS, LOSSES, RECONSTRUCTION
from salad.networks import NETWORKS, build_modules, build_network

COMPUTE = {
    ANOMALY_HEAD: lambda network, images: network.patch_features(images),
    EMBEDDINGS: lambda network, images: network.encode(images),
    RECONSTRUCTION: lambda network, images: network(images)[1],
}
OFF = {spec.weight: 0.0 for spec in LOSSES.values()}


@pytest.mark.parametrize("part", COMPUTE)
@pytest.mark.parametrize("net_name", NETWORKS)
def test_the_modules_of_a_part_compute_it_as_the_whole_network_does(net_name, part):
    whole = build_network(net_name, rep_dim=8, isize=64).eval()
    state = torch.get_rng_state()
    some = build_modules(net_name, rep_dim=8, isize=64, modules=modules_of(net_name, [part])).eval()
    assert torch.equal(torch.get_rng_state(), state)

    names = some.state_dict().keys()
    some.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if name in names})

    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert_close(COMPUTE[part](some, images), COMPUTE[part](whole, images))
    assert (len(names) < len(whole.state_dict())) == (part != RECONSTRUCTION)


@pytest.mark.parametrize("net_name", NETWORKS)
def test_each_module_of_a_list_is_needed(net_name):
    for part in COMPUTE:
        modules = modules_of(net_name, [part])
        names = build_modules(net_name, rep_dim=8, isize=64, modules=modules).state_dict().keys()
        assert all(any(name.startswith(f"{module}.") for name in names) for module in modules)
    assert modules_of(net_name, [ANOMALY_HEAD, EMBEDDINGS]) == modules_of(net_name, [EMBEDDINGS])
    assert build_modules(net_name, rep_dim=8, isize=64, modules=modules_of(net_name, [])).state_dict() == {}


def test_trained_parts_are_those_of_losses_with_a_weight():
    assert trained_parts({}, net_name="unet") == {EMBEDDINGS, RECONSTRUCTION}
    assert trained_parts({**OFF, "w_syn": 1.0}, net_name="unet") == {ANOMALY_HEAD}
    assert trained_parts({**OFF, "w_rec": 1.0}, net_name="unet") == {EMBEDDINGS, RECONSTRUCTION}
    assert trained_parts({**OFF, "w_rec": 1.0}, net_name="CXR_resnet18") == {RECONSTRUCTION}
    assert trained_parts({"w_syn": 1.0}, net_name="CXR_resnet18", in_pre_training=True) == {RECONSTRUCTION}


def test_scores_use_their_part_or_patch_features_or_nothing():
    assert used_parts(["local", "knn"]) == {ANOMALY_HEAD, EMBEDDINGS}
    assert used_parts(["reconstruction"]) == {RECONSTRUCTION}
    assert used_parts(["backbone"]) == used_parts([]) == frozenset()
