import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from salad.datasets.images import read_image
from salad.datasets.loader import BalancedBatches, Loader
from salad.datasets.sample import Sample
from salad.errors import InputError


@pytest.fixture
def samples(tmp_path, write_image):
    return [Sample(write_image(tmp_path / f"{i}.png"), f"{i}.png", 0) for i in range(7)]


def make(samples, *, seed=0, num_workers=0, batch_size=3):
    return Loader(samples, isize=8, resize="squash", batch_size=batch_size, num_workers=num_workers, seed=seed)


def order(loader, epoch):
    return [batch.index.tolist() for batch in loader.epoch(epoch)]


@given(st.integers(1, 300), st.integers(1, 64), st.none() | st.integers(0, 2**31), st.integers(0, 10**6))
def test_batches_are_balanced_and_whole(num_samples, batch_size, seed, epoch):
    batches = BalancedBatches(num_samples, batch_size=batch_size, seed=seed)
    batches.epoch = epoch
    found = list(batches)
    sizes = [len(batch) for batch in found]
    assert len(found) == len(batches)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size
    assert len(found) == 1 or max(sizes) + min(sizes) > batch_size  # no more batches than needed
    joined = [i for batch in found for i in batch]
    assert sorted(joined) == list(range(num_samples))
    assert seed is not None or joined == sorted(joined)


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 9), st.integers(0, 10**6))
def test_processes_share_every_batch(num_samples, batch_size, world_size, epoch):
    def batches(rank):
        found = BalancedBatches(num_samples, batch_size=batch_size, seed=1, rank=rank, world_size=world_size)
        found.epoch = epoch
        return found

    alone = BalancedBatches(num_samples, batch_size=batch_size, seed=1)
    alone.epoch = epoch
    parts = [list(batches(rank)) for rank in range(world_size)]
    if num_samples < world_size:  # in scoring alone
        assert [i for part in parts for batch in part for i in batch] == [i for batch in alone for i in batch]
        return
    assert {len(part) for part in parts} == {len(batches(0))}
    whole = [[i for batch in step for i in batch] for step in zip(*parts, strict=True)]
    sizes = [[len(batch) for batch in step] for step in zip(*parts, strict=True)]
    assert sizes == [batches(0).sizes(number) for number in range(len(sizes))]
    assert all(max(step) - min(step) <= 1 and min(step) >= 1 for step in sizes)
    assert [i for batch in whole for i in batch] == [i for batch in alone for i in batch]
    if len(whole) == len(alone):
        assert whole == list(alone)
    else:  # where a batch of at most batch_size would leave a process without an image
        assert batch_size < 2 * world_size and max(map(sum, sizes)) < 2 * world_size


def test_seed_and_epoch_decide_the_order():
    def joined(seed, epoch):
        batches = BalancedBatches(50, batch_size=8, seed=seed)
        batches.epoch = epoch
        return list(batches)

    assert joined(1, 0) == joined(1, 0)
    orders = {str(joined(seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_a_batch_holds_the_images_of_its_index(samples):
    for batch in make(samples).epoch(0):
        assert batch.grey.dtype == torch.uint8
        for image, i in zip(batch.grey, batch.index, strict=True):
            expected = read_image(samples[i].path, isize=8, resize="squash")
            assert np.array_equal(image[0].numpy(), expected)


def test_workers_change_nothing(samples):
    alone, helped = make(samples), make(samples, num_workers=2)
    assert len(alone) == len(helped) == 3
    for epoch in (0, 1, 1, 5):
        for one, other in zip(alone.epoch(epoch), helped.epoch(epoch), strict=True):
            assert torch.equal(one.index, other.index)
            assert torch.equal(one.grey, other.grey)


def test_epochs_can_be_taken_in_any_order(samples):
    loader = make(samples)
    first = order(loader, 0)
    assert order(loader, 4) != first
    assert order(loader, 0) == first


def test_without_a_seed_the_order_is_kept(samples):
    assert order(make(samples, seed=None), 3) == [[0, 1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_iterating_draws_no_global_random_numbers(samples, num_workers):
    loader = make(samples, num_workers=num_workers)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    order(loader, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_file(samples, num_workers, capfd):
    samples[4].path.write_bytes(samples[4].path.read_bytes()[:60])
    loader = make(samples, num_workers=num_workers)
    for _ in range(2):  # the second time over workers that lived on
        with pytest.raises(InputError) as caught:
            order(loader, 0)
        assert str(caught.value).startswith(f"{samples[4].path}: ")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_missing_file(samples):
    samples[0].path.unlink()
    with pytest.raises(InputError, match=str(samples[0].path)):
        order(make(samples), 0)
