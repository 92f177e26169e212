import multiprocessing
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from running import REPOSITORY

from salad.datasets.loader import BATCHES_AHEAD, BalancedBatches, Loader
from salad.errors import InputError
from salad.images.decoder import DecodedImages, Decoder
from salad.images.read import read_image
from salad.samples import Sample

DECODER = Decoder(isize=8, resize="squash")


@pytest.fixture
def samples(tmp_path, write_image):
    return [Sample(write_image(tmp_path / f"{i}.png"), f"{i}.png", 0) for i in range(7)]


def make(samples, *, seed=0, num_threads=0, batch_size=3):
    images = DecodedImages(samples, decoder=DECODER)
    return Loader(images, batch_size=batch_size, num_threads=num_threads, seed=seed)


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


@pytest.mark.parametrize("pinned", [True, False])
def test_for_a_gpu_pixels_and_indices_lie_in_pinned_memory(samples, monkeypatch, pinned):
    asked = []
    for name in ("empty", "tensor"):
        real = getattr(torch, name)

        def recorded(*values, pin_memory=False, real=real, **options):
            asked.append(pin_memory)
            return real(*values, **options)

        monkeypatch.setattr(torch, name, recorded)
    images = DecodedImages(samples, decoder=DECODER)
    list(Loader(images, batch_size=4, num_threads=0, pin_memory=pinned).epoch(0))
    assert asked == [pinned] * 4  # two batches


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_threads_change_nothing(samples, num_threads):
    alone, helped = make(samples), make(samples, num_threads=num_threads)
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


@pytest.mark.parametrize("num_threads", [0, 2])
def test_iterating_draws_no_global_random_numbers(samples, num_threads):
    loader = make(samples, num_threads=num_threads)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    order(loader, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


@pytest.mark.parametrize("num_threads", [0, 2])
def test_damaged_file(samples, num_threads, capfd):
    samples[4].path.write_bytes(samples[4].path.read_bytes()[:60])
    loader = make(samples, num_threads=num_threads)
    for _ in range(2):  # and it can be tried again
        with pytest.raises(InputError) as caught:
            order(loader, 0)
        assert str(caught.value).startswith(f"{samples[4].path}: ")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_missing_file(samples):
    samples[0].path.unlink()
    with pytest.raises(InputError, match=str(samples[0].path)):
        order(make(samples), 0)


def test_few_batches_are_read_ahead_and_none_after_the_end():
    class Counted:
        isize, read_so_far = 1, 0

        def __len__(self):
            return 100

        def read(self, index, out):
            self.read_so_far += len(index)

    images = Counted()
    batches = Loader(images, batch_size=1, num_threads=2).epoch(0)
    next(batches)
    batches.close()
    assert 1 <= images.read_so_far <= 1 + BATCHES_AHEAD
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


@pytest.mark.slow
def test_an_epoch_that_is_held_after_an_error_does_not_keep_the_process_alive(samples):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from salad.images.decoder import DecodedImages; from salad.datasets.loader import Loader\n"
        "from salad.images.decoder import Decoder\n"
        "from salad.samples import Sample\n"
        "samples = [Sample(Path(sys.argv[1]), 'a', 0)] * 50\n"
        "images = DecodedImages(samples, decoder=Decoder(isize=8, resize='squash'))\n"
        "held = Loader(images, batch_size=2, num_threads=2).epoch(0)\n"
        "next(held)\n"
        "raise RuntimeError('a fault')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(samples[0].path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "a fault" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_reads_in_processes_of_every_start_method(samples, method):
    """As a hyper-parameter search has them."""
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply_async(order, (make(samples, num_threads=2), 1)).get(timeout=300)
    assert found == order(make(samples), 1)
