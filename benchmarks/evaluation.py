"""Benchmark `evaluation`: embeddings of decoded images on the CPU, with both networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.compare import Timing, compare
from benchmarks.plain import PLAIN_NETWORKS
from benchmarks.sides import Side
from salad.datasets.loader import Batch
from salad.device import keep_freed_memory
from salad.networks import build_network
from salad.scoring.evaluate import embed

if TYPE_CHECKING:
    from salad.networks import Network

NUM_IMAGES, BATCH_SIZE, REP_DIM = 64, 16, 200


class DecodedImages:
    """Loader of noise images."""

    def __init__(self, isize: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (NUM_IMAGES, 1, isize, isize)
        self.grey = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield all batches, in order."""
        for index in torch.split(torch.arange(NUM_IMAGES), BATCH_SIZE):
            yield Batch(self.grey[index], index)


def start_network(net_name: str, isize: int) -> Network:
    """Make a network with the same weights for both sides."""
    torch.manual_seed(0)
    return build_network(net_name, rep_dim=REP_DIM, isize=isize)


def our_embeddings(net_name: str, isize: int) -> Callable[[], Tensor]:
    """Make the function of this program, which embeds as test.py does."""
    keep_freed_memory()
    network = start_network(net_name, isize).to(memory_format=torch.channels_last)
    images = DecodedImages(isize)
    return lambda: embed(network, images, torch.device("cpu"))  # type: ignore[arg-type]


def plain_embeddings(net_name: str, isize: int) -> Callable[[], Tensor]:
    """Make the function of the baseline, which runs the whole network, decoder included, in NCHW."""
    network = PLAIN_NETWORKS[net_name](rep_dim=REP_DIM, isize=isize).eval()
    network.load_state_dict(start_network(net_name, isize).state_dict())
    images = DecodedImages(isize)

    @torch.no_grad()
    def embeddings() -> Tensor:
        greys = (batch.grey.float() / 255 * 2 - 1 for batch in images.epoch(0))
        return torch.cat([network(grey.repeat(1, 3, 1, 1))[0] for grey in greys])

    return embeddings


def run(*, turns: int) -> list[Timing]:
    """Time both networks."""
    timings = []
    for net_name, isize in (("unet", 256), ("CXR_resnet18", 224)):
        with Side(our_embeddings, net_name, isize) as ours, Side(plain_embeddings, net_name, isize) as plain:
            timing = compare(
                f"embeddings of {NUM_IMAGES} images, {net_name}, {isize} px, batches of {BATCH_SIZE}",
                ours,
                plain,
                baseline="the whole network, NCHW, no_grad",
                turns=turns,
            )
            difference = (ours() - plain()).abs().max().item()
        timings.append(dataclasses.replace(timing, facts={"largest difference of an entry": difference}))
    return timings
