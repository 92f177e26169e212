"""Batches of decoded images, in the same order whatever the number of workers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from salad.datasets.images import read_image
from salad.datasets.sample import Sample
from salad.errors import InputError
from salad.interrupt import start_worker


@dataclass(frozen=True)
class Batch:
    """Decoded images of one step.

    Attributes:
        grey: (B, 1, S, S), uint8.
        index: place of each image in the list of samples, (B,).
    """

    grey: Tensor
    index: Tensor

    def pin_memory(self) -> "Batch":
        """Page-locked, so that the copy to a GPU need not wait (called by torch's loader)."""
        return Batch(self.grey.pin_memory(), self.index.pin_memory())


class DecodedBatches(Dataset["Batch | InputError"]):
    """Decodes the files of one batch at a time; a file at fault comes back as the error itself."""

    def __init__(self, samples: list[Sample], *, isize: int, resize: str) -> None:
        self.samples = samples
        self.isize = isize
        self.resize = resize

    def __getitem__(self, index: list[int]) -> "Batch | InputError":
        try:
            images = [read_image(self.samples[i].path, isize=self.isize, resize=self.resize) for i in index]
        except InputError as error:  # raised here, a worker's traceback would be printed around it
            return error
        return Batch(torch.from_numpy(np.stack(images)).unsqueeze(1), torch.tensor(index))


class BalancedBatches(Sampler[list[int]]):
    """The numbers 0..N-1 in batches whose sizes differ by one at most, none left out.

    A last batch of one or two images would spoil batch statistics; here N = 33 at batch size 32 gives 17 + 16.
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
    """Iterates over the batches of a list of samples.

    Args:
        samples: what to read.
        isize: S, in pixels.
        resize: ``squash``, ``pad`` or ``crop``.
        batch_size: at most this many images a batch.
        num_workers: processes that decode; 0 decodes in this one.
        seed: shuffles the samples anew in each epoch; None keeps their order.
        pin_memory: for copies to a GPU.
        rank: of this process, which gets its part of every batch.
        world_size: how many processes share the batches.
    """

    def __init__(
        self,
        samples: list[Sample],
        *,
        isize: int,
        resize: str,
        batch_size: int,
        num_workers: int,
        seed: int | None = None,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.samples = samples
        self.batches = BalancedBatches(len(samples), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
        self._loader = DataLoader(
            DecodedBatches(samples, isize=isize, resize=resize),
            sampler=self.batches,
            batch_size=None,  # the sampler gives whole batches
            num_workers=min(num_workers, len(self.batches)),
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
            worker_init_fn=start_worker,
            generator=torch.Generator().manual_seed(0),  # else each epoch takes a number from the global one
        )

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
        for batch in self._loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch
