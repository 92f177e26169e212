"""The numbers of an independent implementation, golden.npz, reproduced in float64."""

import pytest
import torch
from golden_numbers import (
    MOMENTUM,
    OBJECTIVES,
    TEMPERATURE,
    discover,
    golden_images,
    loss_and_gradient,
    published_network,
    read_golden,
)
from naming_rule import CHECKPOINT_KEYS
from torch.testing import assert_close

from salad.losses.reconstruction import reconstruction_loss
from salad.memory import MemoryBank
from salad.networks import NETWORKS, build_network
from salad.scores.knn import knn_angle

pytestmark = pytest.mark.trains

RTOL = 1e-6


def assert_golden(actual, expected):
    assert expected.dtype in (torch.float64, torch.int64)
    assert_close(actual, expected, rtol=RTOL, atol=1e-12)


@pytest.fixture(params=OBJECTIVES)
def golden(request, device):
    return read_golden(request.param, device)


def test_instance_discrimination(golden):
    loss, gradient = loss_and_gradient(golden, None)
    assert_golden(loss, golden["instance_loss"])
    assert_golden(gradient, golden["instance_grad_z"])


def test_memory_update(golden):
    num_rows, dim = golden["memory"].shape
    bank = MemoryBank(num_rows, dim, temperature=TEMPERATURE, momentum=MOMENTUM, dtype=torch.float64)
    bank.rows = golden["memory"].clone()
    bank.update(golden["index"], golden["z"])
    assert_golden(bank.rows, golden["memory_after_update"])


def test_anchors(golden):
    found = discover(golden)
    assert_golden(found.entropy, golden["entropy"])
    assert_golden(found.anchors, golden["anchors_sorted"])
    assert_golden(found.neighbours.sort(dim=1).values, golden["anchor_neighbours"])


def test_aggregation(golden):
    loss, gradient = loss_and_gradient(golden, discover(golden))
    assert_golden(loss, golden["aggregation_loss"])
    assert_golden(gradient, golden["aggregation_grad_z"])


def test_score(golden):
    assert_golden(knn_angle(golden["query"], golden["memory"], k=golden["k"].item()), golden["score"])


@pytest.fixture(scope="module", params=list(CHECKPOINT_KEYS))
def network_run(request, device):
    """(golden numbers, images, z, reconstruction) of a network filled by name as from a published file."""
    network = published_network(request.param, device)
    images = golden_images(NETWORKS[request.param].default_isize, device)
    with torch.no_grad():
        z, recon = network(images)
    return read_golden(request.param, device), images, z, recon


def test_embedding(network_run):
    golden, _, z, _ = network_run
    assert_golden(z, golden["embedding"])


def test_reconstruction(network_run):
    golden, images, _, recon = network_run
    assert_golden(recon[:, :, 100:108, 100:108], golden["recon_patch"])
    assert_golden(recon.abs().mean(), golden["recon_mean_abs"])
    assert_golden(reconstruction_loss(recon, images), golden["recon_l1"])


def test_published_files_hold_tensors_that_no_network_has():
    own = build_network("CXR_resnet18", rep_dim=200, isize=32).state_dict()
    unused = CHECKPOINT_KEYS["CXR_resnet18"].keys() - own.keys()
    assert {name.rsplit(".", 2)[0] for name in unused if name.endswith("running_mean")} == {
        f"decoder.decoder.{block}.conv1" for block in (2, 4, 6)
    }
