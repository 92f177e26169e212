"""Load batches of images ahead of time with threads, in an order that does not depend on their number."""

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

DECODED = Preprocessing()  # leaves the decoded images unchanged
BATCHES_AHEAD = 3  # read in the background while the consumer uses one batch


@dataclass(frozen=True)
class Batch:
    """Images of one step.

    Attributes:
        grey: decoded grey levels (B, 1, S, S), uint8, before preprocessing.
        index: index of each image in the list of samples, (B,).
        preprocessing: preprocessing that `normalized` applies.
    """

    grey: Tensor
    index: Tensor
    preprocessing: Preprocessing = DECODED

    def normalized(self, device: torch.device) -> Tensor:
        """Preprocess the images on a device; return (B, 1, S, S), uint8."""
        return self.preprocessing(self.grey.to(device, non_blocking=True))


class BalancedBatches:
    """Batches of the indices 0..N-1 whose sizes differ by one at most, without leaving an index out.

    A small last batch would have poor batch statistics, so N = 33 at batch size 32 gives batches of 17 and 16.
    Each batch is divided among the processes into shares whose sizes differ by one at most.

    Args:
        num_samples: N, number of images.
        batch_size: maximum size of a batch, raised only to give every process an image.
        seed: seed of the shuffling, which depends only on it and on `epoch`; None keeps the order.
        rank: process that gets the shares.
        world_size: number of processes; if it is larger than N, some processes get nothing.
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
        self.first = 0  # a resumed epoch skips the batches before this one

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.num_samples)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.epoch)
            order = torch.randperm(self.num_samples, generator=generator)
        batches = order.tensor_split(self.num_batches)[self.first :]
        shares = (batch.tensor_split(self.world_size)[self.rank].tolist() for batch in batches)
        return (share for share in shares if share)

    def sizes(self, number: int) -> list[int]:
        """Number of images of batch `number` in each process."""
        size = _share_size(self.num_samples, self.num_batches, number)
        return [_share_size(size, self.world_size, rank) for rank in range(self.world_size)]


def _share_size(total: int, num_shares: int, number: int) -> int:
    """Size of share `number`, as `torch.tensor_split` divides `total`."""
    return total // num_shares + (number < total % num_shares)


class Loader:
    """Loader of image batches that reads ahead with threads.

    Decoders and file systems release Python's global lock. So threads read as fast as processes would, without
    start-up time, shared memory or copies of the list of samples.

    Args:
        images: images to read.
        batch_size: maximum number of images per batch.
        num_threads: number of threads that read ahead; 0 reads each batch on demand in the calling thread.
        seed: seed that shuffles the images differently in each epoch; None keeps their order.
        pin_memory: True for pinned memory, so that copies to a GPU can be asynchronous.
        rank: this process, which gets its share of every batch.
        world_size: number of processes that share the batches.
        preprocessing: preprocessing of the batches.
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
        """Yield the batches of an epoch.

        Args:
            number: number of the epoch, which determines the order.
            first: number of batches to skip at the start.

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
        pending: deque[tuple[Batch, list[Future[None]]]] = deque()
        try:
            for index in self.batches:
                pending.append(self._start(index, pool))
                if len(pending) > BATCHES_AHEAD:
                    yield _finish(*pending.popleft())
            while pending:
                yield _finish(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _empty(self, index: list[int]) -> Batch:
        shape = len(index), 1, self.images.isize, self.images.isize
        grey = torch.empty(shape, dtype=torch.uint8, pin_memory=self.pin_memory)
        # pinned, too: a copy from pageable memory may wait for all work of the GPU before it starts
        return Batch(grey, torch.tensor(index, pin_memory=self.pin_memory), self.preprocessing)

    def _start(self, index: list[int], pool: ThreadPoolExecutor) -> tuple[Batch, list[Future[None]]]:
        """Divide a batch among the threads and start to read it."""
        batch, reads = self._empty(index), []
        for positions in np.array_split(np.arange(len(index)), min(self.num_threads, len(index))):
            low, high = positions[0], positions[-1] + 1
            reads.append(pool.submit(self.images.read, index[low:high], batch.grey.numpy()[low:high, 0]))
        return batch, reads


def _finish(batch: Batch, reads: list[Future[None]]) -> Batch:
    for read in reads:
        read.result()
    return batch
