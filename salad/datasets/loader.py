"""Batches of images, read ahead by threads, in the same order whatever their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from salad.images.preprocessing import Preprocessing
from salad.samples import Images

DECODED = Preprocessing()  # images as they are
BATCHES_AHEAD = 3  # that are read while one is worked on


@dataclass(frozen=True)
class Batch:
    """Images of one step.

    Attributes:
        grey: as in the files, (B, 1, S, S), uint8.
        index: place of each image in the list of samples, (B,).
        preprocessing: what becomes of them.
    """

    grey: Tensor
    index: Tensor
    preprocessing: Preprocessing = DECODED

    def normalized(self, device: torch.device) -> Tensor:
        """The images as a network is to have them, (B, 1, S, S), uint8, on a device."""
        return self.preprocessing(self.grey.to(device, non_blocking=True))


class BalancedBatches:
    """The numbers 0..N-1 in batches whose sizes differ by one at most, none left out.

    A last batch of one or two images would corrupt batch statistics; here N = 33 at batch size 32 gives 17 + 16.
    Of each batch, every process gets a part, again equal up to one.

    Args:
        num_samples: N.
        batch_size: no batch is larger, unless every process needs an image of it.
        seed: of the shuffling, which depends on it and on `epoch` alone; None keeps the order.
        rank: the process whose parts these are.
        world_size: how many processes there are; with more than N, some have no part.
    """

    def __init__(
        self, num_samples: int, *, batch_size: int, seed: int | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_samples = num_samples
        self.num_batches = max(1, min(-(-num_samples // batch_size), num_samples // world_size))
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first = 0  # batches before it are left out: they were met before an interruption

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.num_samples)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.epoch)
            order = torch.randperm(self.num_samples, generator=generator)
        batches = order.tensor_split(self.num_batches)[self.first :]
        parts = (batch.tensor_split(self.world_size)[self.rank].tolist() for batch in batches)
        return (part for part in parts if part)

    def sizes(self, number: int) -> list[int]:
        """How many images of a batch each process has."""
        size = _part(self.num_samples, self.num_batches, number)
        return [_part(size, self.world_size, rank) for rank in range(self.world_size)]


def _part(total: int, num_parts: int, number: int) -> int:
    """The size of a part, as torch.tensor_split makes them."""
    return total // num_parts + (number < total % num_parts)


class Loader:
    """Iterates over the batches of some images.

    Decoders and file systems work outside Python's lock, so threads read as fast as processes would, and need
    no start-up, no shared memory and no copies of the list of samples.

    Args:
        images: what to read.
        batch_size: at most this many images a batch.
        num_threads: threads that read ahead; 0 reads in this one, when a batch is asked for.
        seed: shuffles the images anew in each epoch; None keeps their order.
        pin_memory: for copies to a GPU that need not wait.
        rank: of this process, which gets its part of every batch.
        world_size: how many processes share the batches.
        preprocessing: of its batches.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        num_threads: int,
        seed: int | None = None,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
        preprocessing: Preprocessing = DECODED,
    ) -> None:
        self.images = images
        self.batches = BalancedBatches(len(images), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
        self.num_threads = num_threads
        self.pin_memory = pin_memory
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, *, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch; its number decides the order.

        Args:
            number: of the epoch.
            first: batches to leave out at the start.

        Raises:
            InputError: a file cannot be read.
        """
        self.batches.epoch, self.batches.first = number, first
        if self.num_threads == 0:
            for index in self.batches:
                batch = self._empty(index)
                self.images.read(index, batch.grey.numpy()[:, 0])
                yield batch
            return
        pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="images")
        under_way: deque[tuple[Batch, list[Future[None]]]] = deque()
        try:
            for index in self.batches:
                under_way.append(self._start(index, pool))
                if len(under_way) > BATCHES_AHEAD:
                    yield _finish(*under_way.popleft())
            while under_way:
                yield _finish(*under_way.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _empty(self, index: list[int]) -> Batch:
        shape = len(index), 1, self.images.isize, self.images.isize
        grey = torch.empty(shape, dtype=torch.uint8, pin_memory=self.pin_memory)
        return Batch(grey, torch.tensor(index), self.preprocessing)

    def _start(self, index: list[int], pool: ThreadPoolExecutor) -> tuple[Batch, list[Future[None]]]:
        """Share a batch out among the threads."""
        batch, parts = self._empty(index), []
        for places in np.array_split(np.arange(len(index)), min(self.num_threads, len(index))):
            low, high = places[0], places[-1] + 1
            parts.append(pool.submit(self.images.read, index[low:high], batch.grey.numpy()[low:high, 0]))
        return batch, parts


def _finish(batch: Batch, parts: list[Future[None]]) -> Batch:
    for part in parts:
        part.result()
    return batch
