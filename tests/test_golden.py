"""The numbers of an independent implementation, golden.npz, reproduced in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
from naming_rule import CHECKPOINT_KEYS, state_from_names
from torch.testing import assert_close

from salad.anchors import discover_anchors
from salad.checkpoint import Checkpoint
from salad.losses.aggregation import aggregation_loss
from salad.losses.reconstruction import reconstruction_loss
from salad.memory import MemoryBank
from salad.networks import NETWORKS, build_network
from salad.scores.knn import knn_angle

pytestmark = pytest.mark.trains

RTOL = 1e-6
# The numbers were computed with 0.1 as float32 stores it: near zeros of a gradient, that shows at this RTOL.
TEMPERATURE, MOMENTUM = float(np.float32(0.1)), 0.5


def read_golden(prefix):
    with np.load(Path(__file__).parent / "golden.npz") as file:
        return {name.removeprefix(f"{prefix}/"): torch.from_numpy(file[name]) for name in file if prefix in name}


def assert_golden(actual, expected):
    assert expected.dtype in (torch.float64, torch.int64)
    assert_close(actual, expected, rtol=RTOL, atol=1e-12)


@pytest.fixture(params=["objective_a", "objective_b"])
def golden(request):
    return read_golden(request.param)


def discover(golden):
    share = golden["select_rate"].item() * golden["round"].item()
    return discover_anchors(
        golden["memory"],
        num_anchors=round(len(golden["memory"]) * share),
        num_neighbours=golden["n_neighbours"].item(),
        temperature=TEMPERATURE,
    )


def loss_and_gradient(golden, anchors):
    z = golden["z"].clone().requires_grad_()
    loss = aggregation_loss(z, golden["index"], golden["memory"], temperature=TEMPERATURE, anchors=anchors)
    loss.backward()
    return loss.detach(), z.grad


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


def golden_images(size):
    place = torch.arange(size, dtype=torch.float64) / size
    b = torch.arange(2).view(2, 1, 1, 1)
    c = torch.arange(3).view(1, 3, 1, 1)
    u, v = place.view(1, 1, 1, -1), place.view(1, 1, -1, 1)
    return torch.sin(6 * u * (1 + b) + 4 * v + c) * torch.cos(9 * v * (1 + b / 2))


@pytest.fixture(scope="module", params=list(CHECKPOINT_KEYS))
def network_run(request):
    """(golden numbers, images, z, reconstruction) of a network filled by name as from a published file."""
    name, size = request.param, NETWORKS[request.param].default_isize
    network = build_network(name, rep_dim=200, isize=size).double()
    published = Checkpoint(
        path=Path("published.tar"),
        model_state=state_from_names(name),  # with the tensors that are never used
        bank=MemoryBank(1, 200, temperature=TEMPERATURE, momentum=MOMENTUM),
        config=None,
        normal_class=None,
        row_labels=None,
        svdd=None,
        anchors=None,
        training={},
    )
    published.load_into(network)
    images = golden_images(size)
    with torch.no_grad():
        z, recon = network.eval()(images)
    return read_golden(name), images, z, recon


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
