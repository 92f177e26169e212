"""The numbers of an independent implementation, golden.npz, and the computations that reproduce them on a device."""

from pathlib import Path

import numpy as np
import torch
from naming_rule import state_from_names

from salad.anchors import discover_anchors
from salad.checkpoint import Checkpoint
from salad.losses.aggregation import aggregation_loss
from salad.memory import MemoryBank
from salad.networks import NETWORKS, build_network

OBJECTIVES = ("objective_a", "objective_b")
# The numbers were computed with 0.1 as float32 stores it: near zeros of a gradient, that shows in float64.
TEMPERATURE, MOMENTUM = float(np.float32(0.1)), 0.5


def read_golden(prefix, device, dtype=torch.float64):
    """The numbers under a prefix by name; those that are not whole in a number format."""
    with np.load(Path(__file__).parent / "golden.npz") as file:
        read = {name.removeprefix(f"{prefix}/"): torch.from_numpy(file[name]) for name in file if prefix in name}
    return {name: value.to(device, dtype if value.is_floating_point() else None) for name, value in read.items()}


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


def golden_images(size, device, dtype=torch.float64):
    place = torch.arange(size, dtype=torch.float64) / size
    b = torch.arange(2).view(2, 1, 1, 1)
    c = torch.arange(3).view(1, 3, 1, 1)
    u, v = place.view(1, 1, 1, -1), place.view(1, 1, -1, 1)
    return (torch.sin(6 * u * (1 + b) + 4 * v + c) * torch.cos(9 * v * (1 + b / 2))).to(device, dtype)


def published_network(name, device, dtype=torch.float64):
    """A network in eval mode, filled by name as from a published file."""
    network = build_network(name, rep_dim=200, isize=NETWORKS[name].default_isize).double()
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
    return network.to(device, dtype).to(memory_format=torch.channels_last).eval()
