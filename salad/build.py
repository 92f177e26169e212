"""What a run starts from: images, loaders, and a network."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.datasets.loader import Loader
from salad.distributed.team import SOLO, Team
from salad.errors import InputError
from salad.images.cache import find_cached
from salad.images.cache_file import choose_folder
from salad.images.decoder import DecodedImages, Decoder
from salad.images.preprocessing import Preprocessing
from salad.images.scan import scan
from salad.networks import build_network, network_spec
from salad.networks.compiled import compile_network
from salad.samples import Images, Split

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


def scan_images(config: Config, splits: dict[str, Split]) -> dict[str, Split]:
    """Decode every file once, or find its pixels in the cache, and leave out the bad ones where the options say so.

    Raises:
        InputError: a file cannot be read and --on_bad_image is not skip, or none can be.
    """
    return scan(
        splits,
        decoder=make_decoder(config),
        num_threads=config.n_jobs_dataloader,
        on_bad_image=config.on_bad_image,
        cache=choose_folder(config.cache, config.data_path),
        data_path=config.data_path,
    )


def find_images(config: Config, split: Split, *, name: str) -> Images:
    """The pixels of a split without looking at each: out of the cache where it has all, else from the files.

    Args:
        config: how they are read.
        split: its images.
        name: ``train``, ``val`` or ``test``.
    """
    if split.images is not None:
        return split.images
    samples, decoder, data_path = split.samples, make_decoder(config), config.data_path
    folder = choose_folder(config.cache, data_path)
    cached = folder and find_cached(samples, folder=folder, data_path=data_path, split=name, decoder=decoder)
    return cached or DecodedImages(samples, decoder=decoder)


def make_decoder(config: Config) -> Decoder:
    """How the images of a run are read."""
    return Decoder(isize=config.decoded_size, resize=config.resize, trim=config.trim)


def make_preprocessing(config: Config, mean_image: Tensor | None) -> Preprocessing:
    """What becomes of the decoded images of a run.

    Args:
        config: of the training or of the scoring.
        mean_image: that the checkpoint holds; not looked at without --align.

    Raises:
        InputError: there is none, but --align.
    """
    if config.align and mean_image is None:
        raise InputError(
            "--align needs the mean normal image of its training, but the checkpoint has none: leave it out"
        )
    return Preprocessing(
        kind=config.normalize,
        margin=config.margin,
        mean_image=mean_image if config.align else None,
    )


def check_same_for_all(split: Split, team: Team) -> None:
    """Raise `InputError` where the processes of a team have found different images, on different machines say."""
    found, first = split.fingerprint, team.from_first(lambda: split.fingerprint)
    if found != first:
        raise InputError(
            f"process {team.rank} finds {found}, but process 0 {first}: DATA_PATH must hold the same for all"
        )


def make_loader(
    config: Config,
    split: Split,
    device: torch.device,
    *,
    mean_image: Tensor | None = None,
    seed: int | None = None,
    team: Team = SOLO,
) -> Loader:
    """A loader of a split that was scanned, or of this process's part of each batch; shuffled with a seed."""
    assert split.images is not None and len(split.images) == len(split.samples), "scan_images comes first"
    return Loader(
        split.images,
        batch_size=config.batch_size,
        num_threads=config.n_jobs_dataloader,
        seed=seed,
        pin_memory=device.type == "cuda",
        rank=team.rank,
        world_size=team.size,
        preprocessing=make_preprocessing(config, mean_image),
    )


def start_network(config: Config, start: Checkpoint | None, device: torch.device) -> Network:
    """A network on the device: from a checkpoint, else from ImageNet or a file where it has a ResNet trunk.

    Raises:
        InputError: the checkpoint or the weights do not fit.
    """
    weights = config.weights
    if weights is None and network_spec(config.net_name).has_imagenet_trunk:
        weights = "imagenet"
    if start is not None or weights == "none":  # a checkpoint has all weights
        weights = None
    network = build_network(
        config.net_name,
        rep_dim=config.rep_dim,
        isize=config.image_size,
        weights=weights,
    )
    if start is not None:
        start.load_into(network)
    network.to(device).to(memory_format=torch.channels_last)  # half as fast again on a CPU
    if config.compile:
        compile_network(network, device)
    return network
