import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from salad.anchors import Anchors, discover_anchors
from salad.losses.aggregation import aggregation_loss
from salad.losses.reconstruction import reconstruction_loss
from salad.losses.svdd import svdd_distances, svdd_loss, svdd_radius

pytestmark = pytest.mark.trains

TEMPERATURE = 0.1


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def naive_aggregation(z, index, rows, *, temperature, anchors, num_views):
    """The formula of the paper as a loop in plain floats; anchors: {row: neighbours}."""
    total = 0.0
    for one, row in zip(z.tolist(), index.tolist(), strict=True):
        weights = [math.exp(sum(a * b for a, b in zip(one, m, strict=True)) / temperature) for m in rows.tolist()]
        image = row // num_views
        positives = set(range(image * num_views, (image + 1) * num_views)) | set(anchors.get(row, ()))
        total -= math.log(sum(weights[j] for j in positives) / sum(weights))
    return total / len(index)


@pytest.mark.parametrize("num_views", [1, 2, 3])
@pytest.mark.parametrize("num_anchors", [0, 1, 7, 24])
def test_aggregation_equals_naive_loop(num_views, num_anchors):
    rows, z = unit(24, 5), unit(9, 5, seed=1)
    index = torch.randperm(24, generator=torch.Generator().manual_seed(2))[:9]
    anchors = as_dict = None
    if num_anchors:
        anchors = discover_anchors(rows, num_anchors=num_anchors, num_neighbours=4, temperature=TEMPERATURE)
        as_dict = dict(zip(anchors.anchors.tolist(), anchors.neighbours.tolist(), strict=True))
    loss = aggregation_loss(z, index, rows, temperature=TEMPERATURE, anchors=anchors, num_views=num_views)
    naive = naive_aggregation(z, index, rows, temperature=TEMPERATURE, anchors=as_dict or {}, num_views=num_views)
    assert loss.item() == pytest.approx(naive, rel=1e-10)


def test_neighbour_that_is_a_view_of_the_same_image_counts_once():
    rows, z, index = unit(6, 4), unit(1, 4, seed=1), torch.tensor([2])
    anchors = Anchors(anchors=index, neighbours=torch.tensor([[3]]), entropy=torch.zeros(6))  # 2 and 3: one image
    with_anchor = aggregation_loss(z, index, rows, temperature=TEMPERATURE, anchors=anchors, num_views=2)
    assert_close(with_anchor, aggregation_loss(z, index, rows, temperature=TEMPERATURE, num_views=2))


def test_neighbours_of_an_anchor_make_its_loss_smaller_and_leave_the_others():
    rows, z = unit(6, 4), unit(2, 4, seed=1)
    anchors = Anchors(anchors=torch.tensor([4]), neighbours=torch.tensor([[0, 1]]), entropy=torch.zeros(6))
    for row, is_smaller in ((4, True), (3, False), (5, False)):
        index = torch.tensor([row])
        plain = aggregation_loss(z[:1], index, rows, temperature=TEMPERATURE)
        assert (aggregation_loss(z[:1], index, rows, temperature=TEMPERATURE, anchors=anchors) < plain) == is_smaller


def test_neighbours_of_gives_minus_one_for_other_rows():
    anchors = Anchors(anchors=torch.tensor([1, 4]), neighbours=torch.tensor([[5, 6], [7, 8]]), entropy=torch.zeros(9))
    found = anchors.neighbours_of(torch.tensor([8, 4, 0, 1, 2]))
    assert found.tolist() == [[-1, -1], [7, 8], [-1, -1], [5, 6], [-1, -1]]


@pytest.mark.parametrize("num_views", [1, 2])
def test_aggregation_gradient(num_views):
    rows, index = unit(8, 3), torch.tensor([0, 3, 5])
    anchors = discover_anchors(rows, num_anchors=4, num_neighbours=2, temperature=0.5)
    z = unit(3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: aggregation_loss(z, index, rows, temperature=0.5, anchors=anchors, num_views=num_views), (z,)
    )


def test_aggregation_gradient_never_reaches_the_rows():
    rows, z = unit(8, 3).requires_grad_(), unit(2, 3, seed=1).requires_grad_()
    aggregation_loss(z, torch.tensor([1, 6]), rows, temperature=TEMPERATURE).backward()
    assert rows.grad is None
    assert z.grad.abs().sum() > 0


def test_aggregation_survives_a_tiny_temperature():
    rows = unit(8, 3).float()
    loss = aggregation_loss(-rows[:2], torch.tensor([0, 1]), rows, temperature=1e-3)
    assert loss.isfinite()
    assert loss > 100  # the probability itself would be 0 in float32


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([torch.float32, torch.float64]))
def test_aggregation_is_never_negative(seed, num_anchors, dtype):
    rows, z = unit(12, 3, seed=seed).to(dtype), unit(4, 3, seed=seed + 1).to(dtype)
    anchors = discover_anchors(rows, num_anchors=num_anchors, num_neighbours=11, temperature=TEMPERATURE)
    loss = aggregation_loss(z, torch.arange(4) * 3, rows, temperature=TEMPERATURE, anchors=anchors)
    assert loss >= -8 * torch.finfo(dtype).eps * 10  # rounding: with all rows positive the loss is 0, of terms up to 10


def test_aggregation_keeps_the_precision_of_z():
    z = unit(2, 3, seed=1)
    loss = aggregation_loss(z, torch.tensor([0, 1]), unit(8, 3).float(), temperature=TEMPERATURE)
    assert loss.dtype == torch.float64


def test_reconstruction_values():
    recon, target = torch.tensor([[0.5, -1.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert reconstruction_loss(recon, target).item() == pytest.approx((0.5 + 2 + 0 + 1) / 4)
    assert reconstruction_loss(recon, target, kind="mse").item() == pytest.approx((0.25 + 4 + 0 + 1) / 4)


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_reconstruction_gradient(kind):
    target = unit(2, 3, 4)
    recon = (target + 0.1 * torch.sign(unit(2, 3, 4, seed=1))).requires_grad_()  # l1 has a kink where they are equal
    assert torch.autograd.gradcheck(lambda recon: reconstruction_loss(recon, target, kind=kind), (recon,))


def test_svdd_one_class_by_hand():
    z, centre = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([1.0, 0.0])
    assert svdd_distances(z, centre).tolist() == [0, 2, 4]
    assert svdd_loss(z, centre).item() == 2


@pytest.mark.parametrize(
    ("radius", "expected"),
    [
        (0.0, 0 + (0 + 2 + 4) / 3 / 0.5),
        (1.0, 1 + (0 + 1 + 3) / 3 / 0.5),  # distance 0 lies inside
        (1.5, 2.25 + (0 + 0 + 1.75) / 3 / 0.5),
        (2.0, 4.0),  # all inside
    ],
)
def test_svdd_soft_boundary_by_hand(radius, expected):
    z, centre = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([1.0, 0.0])
    assert svdd_loss(z, centre, radius=torch.tensor(radius), nu=0.5).item() == pytest.approx(expected)


@pytest.mark.parametrize("soft", [False, True])
def test_svdd_gradient(soft):
    z, centre = unit(5, 3).requires_grad_(), unit(3, seed=1)
    boundary = {"radius": svdd_radius(svdd_distances(z.detach(), centre), nu=0.4) + 0.05, "nu": 0.4} if soft else {}
    assert torch.autograd.gradcheck(lambda z: svdd_loss(z, centre, **boundary), (z,))


@given(
    st.lists(st.floats(0, 4), min_size=1, max_size=40),
    st.floats(0, 1, exclude_min=True),
)
@settings(deadline=None)
def test_svdd_radius_is_the_quantile(distances, nu):
    radius = svdd_radius(torch.tensor(distances, dtype=torch.float64), nu=nu)
    assert radius.item() ** 2 == pytest.approx(np.quantile(distances, 1 - nu), rel=1e-6, abs=1e-12)


def test_svdd_radius_leaves_a_share_nu_outside():
    distances = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    outside = distances > svdd_radius(distances, nu=0.2) ** 2
    assert outside.sum().item() == pytest.approx(200, abs=1)
