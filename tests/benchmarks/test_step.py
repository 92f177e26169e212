"""The baseline of the benchmarks does the same mathematics as the program."""

import pytest
import torch
from torch.testing import assert_close

from benchmarks import evaluation, plain
from benchmarks.step import Task, gigaflop, our_step, plain_step
from salad.networks import unet

pytestmark = pytest.mark.trains

SMALL = {"unet": (64, 6), "CXR_resnet18": (32, 6)}
NUM_STEPS = 5  # rounding grows tenfold within two steps: what is 1e-12 here would be 1e-3 after 20


@pytest.fixture(params=list(SMALL))
def task(request, tmp_path, monkeypatch):
    monkeypatch.setattr(unet, "WIDTHS", (4, 4, 4, 8, 8, 8, 8))
    monkeypatch.setattr(plain, "UNET_WIDTHS", unet.WIDTHS)
    isize, batch_size = SMALL[request.param]
    task = Task(net_name=request.param, isize=isize, batch_size=batch_size, folder=tmp_path)
    task.draw_images()
    return task


@pytest.fixture
def double():
    """float64 on one thread: in float32 Adam's first steps turn rounding errors of a tiny network into 1e-3."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(before)


@pytest.mark.slow
def test_losses_stay_together(task, double):
    losses = []
    for make in (our_step, plain_step):
        step = make(task)
        losses.append([step().item() for _ in range(NUM_STEPS)])
    ours, theirs = losses
    assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert len(set(ours)) == NUM_STEPS


def test_operations_of_a_step_are_those_of_the_method(tmp_path):
    task = Task(net_name="unet", isize=256, batch_size=2, folder=tmp_path)
    assert round(gigaflop(task) / 2, 1) == 21.3


@pytest.mark.parametrize(("net_name", "isize"), [("unet", 64), ("CXR_resnet18", 32)])
def test_embeddings_of_both_sides_are_the_same(monkeypatch, net_name, isize):
    monkeypatch.setattr(evaluation, "NUM_IMAGES", 3)
    monkeypatch.setattr(evaluation, "BATCH_SIZE", 2)
    ours, theirs = (make(net_name, isize)() for make in (evaluation.our_embeddings, evaluation.plain_embeddings))
    assert ours.shape == (3, evaluation.REP_DIM)
    assert_close(ours, theirs, rtol=0, atol=1e-5)
