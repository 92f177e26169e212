"""Why an image has its score: its reconstruction, heatmaps, and the normal images that it is nearest to."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.datasets import read_split
from salad.datasets.augment import to_network
from salad.datasets.normalize import normalize
from salad.datasets.sample import NORMAL, Images, Split
from salad.errors import InputError
from salad.evaluate import find_row_labels
from salad.heatmaps import MIN_NORMALS, ErrorLevels, error_maps, measure_levels, memory_maps, overlay
from salad.prepare import find_images, make_loader, scan_images
from salad.search import nearest

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)

NUM_NEIGHBOURS = 5
HIGH_DEVIATIONS = 6.0  # where the colours of error maps end, in standard deviations
HIGH_ERROR = 0.5  # the same without known deviations, in units of [-1, 1] images
HIGH_DISTANCE = 0.5  # where the colours of memory maps end, one minus a cosine

TrainImages = Callable[[list[int]], np.ndarray]
"""From places among the rows to the pixels of their images, (n, S, S) uint8."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A normal training image near an image.

    Attributes:
        name: of its sample, or ``row 17`` where the images are not at hand.
        angle: between its memory row and the image's embedding, as a fraction of pi.
        pixels: as the network saw it, (S, S), uint8; None where the images are not at hand.
    """

    name: str
    angle: float
    pixels: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the model sees in an image.

    Attributes:
        pixels: the image as the network sees it, (S, S), uint8.
        recon: its reconstruction, (S, S), uint8.
        error_map: smoothed absolute reconstruction error, (S, S); in standard deviations above the mean of validation
            normals at the same place where these are known (it may be negative), else in [0, 2].
        memory_map: one minus the cosine of local features to the nearest of those that the neighbours have at the same
            place, (S, S); None where the training images are not at hand.
        neighbours: normal training images, nearest first; several views of one count once.
        is_standardized: whether the error map is in standard deviations.
    """

    pixels: np.ndarray
    recon: np.ndarray
    error_map: np.ndarray
    memory_map: np.ndarray | None
    neighbours: tuple[Neighbour, ...]
    is_standardized: bool = False

    @property
    def error_high(self) -> float:
        """Where the colours of the error map end; the same for all images of a run."""
        return HIGH_DEVIATIONS if self.is_standardized else HIGH_ERROR

    @property
    def error_overlay(self) -> np.ndarray:
        """The error map over the image, (S, S, 3), uint8."""
        return overlay(self.pixels, self.error_map, high=self.error_high)

    @property
    def memory_overlay(self) -> np.ndarray | None:
        """The memory map over the image, (S, S, 3), uint8; None without one."""
        return None if self.memory_map is None else overlay(self.pixels, self.memory_map, high=HIGH_DISTANCE)


class Explainer:
    """Explains images by the normal rows of a memory.

    Args:
        network: on the device; put into eval mode.
        rows: memory rows of normal images, (N, D).
        row_names: the name of the image that each row belongs to, N of them.
        train_images: gives the pixels of these images; None where they are not at hand.
        device: to compute on.
        kind: how grey levels are normalised.
        num_neighbours: normal images that an image is compared with, at most.
        levels: of the error of validation normals; None leaves error maps as they are.
    """

    def __init__(
        self,
        network: Network,
        *,
        rows: Tensor,
        row_names: Sequence[str],
        train_images: TrainImages | None,
        device: torch.device,
        kind: str,
        num_neighbours: int = NUM_NEIGHBOURS,
        levels: ErrorLevels | None = None,
    ) -> None:
        self.network = network.eval()
        self.rows = rows.to(device)
        self.row_names = row_names
        self.train_images = train_images
        self.device = device
        self.kind = kind
        self.num_neighbours = num_neighbours
        self.levels = levels
        self.most_rows = max(Counter(row_names).values())  # of one image

    @torch.no_grad()
    def explain(self, grey: Tensor) -> list[Explanation]:
        """Explain a batch.

        Args:
            grey: as in the files, (B, 1, S, S), uint8.

        Raises:
            InputError: a training image can no longer be read.
        """
        grey = normalize(grey.to(self.device), self.kind)
        images = _to_network(grey)
        z, recon = self.network(images)
        errors = error_maps(images, recon)
        if self.levels is not None:
            errors = self.levels.deviations(errors)
        near = [self._neighbours(cosines, index) for cosines, index in zip(*self._nearest(z), strict=True)]
        normal, memory = self._compare(images, [[place for place, _ in one] for one in near])
        greys = ((recon.mean(dim=1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return [
            Explanation(
                pixels=grey[i, 0].cpu().numpy(),
                recon=greys[i].cpu().numpy(),
                error_map=errors[i].float().cpu().numpy(),
                memory_map=None if memory is None else memory[i].float().cpu().numpy(),
                neighbours=tuple(
                    Neighbour(name=self.row_names[place], angle=angle, pixels=normal.get(place))
                    for place, angle in near[i]
                ),
                is_standardized=self.levels is not None,
            )
            for i in range(len(grey))
        ]

    def error_maps(self, grey: Tensor) -> Tensor:
        """Error maps (B, S, S) of a batch (B, 1, S, S), uint8, in [0, 2]."""
        with torch.no_grad():
            images = _to_network(normalize(grey.to(self.device), self.kind))
            return error_maps(images, self.network(images)[1])

    def _nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and places of the nearest rows, in falling order, enough for so many different images."""
        values, index = nearest(z, self.rows, k=min(self.num_neighbours * self.most_rows, len(self.rows)))
        order = values.argsort(dim=1, descending=True)
        return values.gather(1, order), index.gather(1, order)

    def _neighbours(self, cosines: Tensor, index: Tensor) -> list[tuple[int, float]]:
        """The nearest row of each of the nearest images: its place, and its angle as a fraction of pi."""
        found: dict[str, tuple[int, float]] = {}
        for place, cosine in zip(index.tolist(), cosines.tolist(), strict=True):
            found.setdefault(self.row_names[place], (place, math.acos(max(-1.0, min(1.0, cosine))) / math.pi))
        return [*found.values()][: self.num_neighbours]

    def _compare(self, images: Tensor, places: list[list[int]]) -> tuple[dict[int, np.ndarray], Tensor | None]:
        """Pixels of the neighbours by place among the rows, and the memory maps of a batch, (B, S, S)."""
        if self.train_images is None:
            return {}, None
        needed = sorted({place for one in places for place in one})  # an image that many are near to is read once
        grey = normalize(torch.from_numpy(self.train_images(needed))[:, None].to(self.device), self.kind)
        parts = torch.split(grey, len(images))
        features = torch.cat([self.network.local_features(_to_network(part)) for part in parts])
        where = {place: number for number, place in enumerate(needed)}
        index = torch.tensor([[where[place] for place in one] for one in places], device=self.device)
        maps = memory_maps(self.network.local_features(images), features, index, isize=images.shape[-1])
        return dict(zip(needed, grey[:, 0].cpu().numpy(), strict=True)), maps


def make_explainer(config: Config, checkpoint: Checkpoint, network: Network, device: torch.device) -> Explainer:
    """An explainer with what DATA_PATH gives: the training images, and the error of validation normals.

    Args:
        config: of the scoring.
        checkpoint: what it scores with.
        network: with the weights of the checkpoint, on the device.
        device: to compute on.

    Raises:
        InputError: an image of val/ cannot be read and --on_bad_image is not skip.
    """
    num_views = (checkpoint.config or {}).get("n_views", 1)
    train, images = find_training_images(config, checkpoint)
    places = (find_row_labels(config, checkpoint) == NORMAL).nonzero().flatten().tolist()
    image_of = [place // num_views for place in places]
    names = [train.samples[i].name if train else f"row {i * num_views}" for i in image_of]

    def read(wanted: list[int]) -> np.ndarray:
        assert images is not None
        pixels = np.empty((len(wanted), images.isize, images.isize), np.uint8)
        images.read([image_of[place] for place in wanted], pixels)
        return pixels

    explainer = Explainer(
        network,
        rows=checkpoint.bank.rows[places],
        row_names=names,
        train_images=read if images else None,
        device=device,
        kind=config.normalize,
    )
    explainer.levels = measure_error_levels(config, explainer)
    return explainer


def find_training_images(config: Config, checkpoint: Checkpoint) -> tuple[Split | None, Images | None]:
    """The training split of a checkpoint and its pixels, if DATA_PATH holds the same images; else None twice."""
    had = checkpoint.config or {}
    try:
        train = read_split(config.dataset_name, config.data_path, "train", selection=config.selection)
        assert train is not None, "only val may be absent"
        train = train if had.get("train_on", "all") == "all" else train.only_normal()
        if had.get("on_bad_image") == "skip" and train.fingerprint != checkpoint.training["images"]:
            train = scan_images(dataclasses.replace(config, on_bad_image="skip"), {"train": train})["train"]
    except InputError as error:
        logger.info("no memory maps: they need the training images (%s)", error)
        return None, None
    num_rows = len(checkpoint.bank.rows)
    # a published file tells only how many images there were
    found, known = f"{len(train.samples)} images", f"{num_rows} images"
    if "images" in checkpoint.training:
        found, known = train.fingerprint, checkpoint.training["images"]
    if found != known:
        logger.info("no memory maps: the model was trained on %s, but train/ holds %s", known, found)
        return None, None
    return train, find_images(config, train, name="train")


def measure_error_levels(config: Config, explainer: Explainer) -> ErrorLevels | None:
    """The error levels of the normal images in val/; None where there are too few.

    Raises:
        InputError: one cannot be read and --on_bad_image is not skip.
    """
    try:
        val = read_split(config.dataset_name, config.data_path, "val", selection=config.selection)
    except InputError as error:
        logger.debug("val/ cannot be used: %s", error)
        val = None
    if val is None or val.num_normal < MIN_NORMALS:
        logger.info("error maps are not standardized: that needs %d normal images in val/", MIN_NORMALS)
        return None
    val = scan_images(config, {"val": val.only_normal()})["val"]
    loader = make_loader(config, val, explainer.device)
    return measure_levels(explainer.error_maps(batch.grey) for batch in loader.epoch(0))


def _to_network(grey: Tensor) -> Tensor:
    return to_network(grey / 255).contiguous(memory_format=torch.channels_last)
