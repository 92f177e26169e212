"""What a run starts from: images, loaders, and a network."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from salad.checkpoint import Checkpoint
from salad.checks.baselines import measure_baselines
from salad.checks.inspection import inspect_splits
from salad.checks.leaks import compare_splits, refuse_leaks
from salad.checks.screen import baseline_lines, fact_lines, warning_lines
from salad.config import Config
from salad.datasets import read_split
from salad.datasets.cache import find_cached
from salad.datasets.cache_folder import choose_folder
from salad.datasets.decoder import Decoder
from salad.datasets.loader import DecodedImages, Loader
from salad.datasets.preprocess import Preprocessing
from salad.datasets.sample import Images, Selection, Split
from salad.datasets.scan import scan
from salad.errors import InputError
from salad.networks import build_network, network_spec
from salad.networks.compiled import compile_network
from salad.options import value_from_json
from salad.runs.distributed import SOLO, Team
from salad.scoring import DEFAULT_K, choose_k

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)

SCORED_BY = ("score", "k", "backbone", "fuse", "local_grid", "local_rows")  # options that a model is kept with


def read_training_data(config: Config) -> tuple[Split, Split | None]:
    """The images to train on, and those of val/ where it holds normal ones; test/ is never looked at.

    What they hold is logged. Every file is decoded once. What was skipped in either split stands in `skipped`
    of the first.

    Raises:
        InputError: train/ is not there or holds no normal image, a file cannot be read, an option asks for
            more than train/ holds, or with --strict, train/ and val/ share images or patients.
    """
    found = read_split(config.dataset_name, config.data_path, "train", selection=config.selection)
    assert found is not None, "only val may be absent"
    train = found if config.train_on == "all" else found.only_normal()
    if train.num_normal == 0:
        raise InputError(f"{config.data_path}: train/ holds no image of the normal class '{found.normal_class}'")
    selection = replace(config.selection, normal_class=train.normal_class)
    val = read_split(config.dataset_name, config.data_path, "val", selection=selection)
    _show_what_is_there(config, {"train": found, **({"val": val} if val else {})})
    checked = scan_images(config, {"train": train, **({"val": val} if val and val.num_normal else {})})
    skipped = tuple(one for split in checked.values() for one in split.skipped)
    num_left_out = len(found.samples) - len(train.samples)
    train = replace(checked["train"], skipped=skipped)
    if train.num_normal == 0:
        raise InputError(f"{config.data_path}: train/ holds no normal image that can be read; log.txt says why")
    check_sizes(config, train)
    logger.info("train: %s; %d abnormal images left out", train, num_left_out)
    val = checked.get("val", val)
    if val is None or not val.has_both_classes:
        logger.info("val: %s, so model.tar will be the last round", "absent" if val is None else "only one class")
        return train, val if val and val.num_normal else None
    logger.info("val: %s; the best AUC picks model.tar", val)
    baselines = measure_baselines(val, decoder=make_decoder(config), num_threads=config.n_jobs_dataloader)
    for line in baseline_lines(baselines) if baselines else ():
        logger.info("%s", line)
    return train, val


def _show_what_is_there(config: Config, splits: dict[str, Split]) -> None:
    """Log one screen about the splits.

    Raises:
        InputError: they share images or patients, which --strict forbids.
    """
    found = inspect_splits(splits, train_on=config.train_on, num_threads=config.n_jobs_dataloader)
    for line in fact_lines(found):
        logger.info("%s", line)
    for line in warning_lines(found):
        logger.warning("%s", line)
    if config.strict:
        refuse_leaks(found.leaks)


def compare_with_training(config: Config, test: Split, *, train_on: str) -> None:
    """Warn of images and patients of test/ that are in train/ or val/, where DATA_PATH holds these.

    Args:
        config: of the scoring.
        test: as it was listed.
        train_on: ``normal`` or ``all``, what the model was trained with.

    Raises:
        InputError: there are such, and --strict forbids them.
    """
    splits = {}
    selection = replace(config.selection, normal_class=test.normal_class)
    for name in ("train", "val"):
        try:
            split = read_split(config.dataset_name, config.data_path, name, selection=selection)
        except InputError as error:
            logger.debug("test/ is not compared with %s/: %s", name, error)
        else:
            splits.update({name: split} if split else {})
    found = compare_splits({**splits, "test": test}, train_on=train_on, num_threads=config.n_jobs_dataloader)
    leaks = [leak for leak in found.leaks if leak.second == "test"]
    for line in [*(f"leak: {leak}" for leak in leaks), *(f"doubt: {doubt}" for doubt in test.doubts)]:
        logger.warning("%s", line)
    if config.strict:
        refuse_leaks(leaks)


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


def check_sizes(config: Config, train: Split) -> None:
    """Raise `InputError` now for what would otherwise stop the run at its first round."""
    num_rows = len(train.samples) * config.n_views
    if config.num_rounds and config.ans_size >= num_rows:
        raise InputError(f"--ans_size is {config.ans_size}, but {num_rows} memory rows have {num_rows - 1} others each")


def check_same_for_all(split: Split, team: Team) -> None:
    """Raise `InputError` where the processes of a team have found different images, on different machines say."""
    found, first = split.fingerprint, team.from_first(lambda: split.fingerprint)
    if found != first:
        raise InputError(
            f"process {team.rank} finds {found}, but process 0 {first}: DATA_PATH must hold the same for all"
        )


def check_enough(num_images: int, what: str, team: Team) -> None:
    """Raise `InputError` where there are fewer images than processes."""
    if num_images < team.size:
        raise InputError(
            f"{what} {num_images}, but torchrun started {team.size} processes, each of which needs an image of every "
            "batch: start fewer"
        )


def find_k(config: Config, *, num_normal_rows: int) -> int:
    """The k to score with; a default that shrinks is said.

    Raises:
        InputError: --k exceeds the number of memory rows of normal images, or there is none.
    """
    if num_normal_rows == 0:
        raise InputError("the memory holds no row of a normal image to score against")
    k = choose_k(config.k, num_rows=num_normal_rows)
    if config.k is None and k < DEFAULT_K:
        logger.warning("k is %d rather than %d: the memory has no more rows of normal images", k, DEFAULT_K)
    return k


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


def make_optimizer(
    config: Config, network: torch.nn.Module, device: torch.device
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam or AMSGrad, and the schedule that is stepped once an epoch."""
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=config.lr,
        weight_decay=config.weight_decay,
        amsgrad=config.optimizer_name == "amsgrad",
        fused=device.type in ("cpu", "cuda"),
    )
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.lr_milestone), gamma=0.1)


def reconcile(given: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """Values for scoring: what was given, and what the checkpoint knows.

    Raises:
        InputError: the two contradict each other.
    """
    known = checkpoint.known()
    for name, value in known.items():
        if name in given and given[name] != value:
            flag, way_out = ("NET_NAME", "type that") if name == "net_name" else (f"--{name}", "leave it out")
            raise InputError(f"{flag} is {given[name]}, but {checkpoint.path} was trained with {value}: {way_out}")
    trained_with = {**(checkpoint.config or {}), "normal_class": checkpoint.normal_class}
    names = ["rec_loss", *SCORED_BY]
    if trained_with.get("dataset_name") == given["dataset_name"]:  # what to take of another one is its own matter
        names += [one.name for one in dataclasses.fields(Selection)]
    inherited = {
        name: value_from_json(Config, name, trained_with[name]) for name in names if trained_with.get(name) is not None
    }
    return {**inherited, **given, **known}
