"""Why an image has its score: its reconstruction, heatmaps, and the normal images that it is nearest to."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.datasets import read_split
from salad.datasets.augment import to_network
from salad.datasets.preprocess import Preprocessing
from salad.datasets.sample import NORMAL
from salad.errors import InputError
from salad.evaluate import find_row_labels
from salad.heatmaps import MIN_NORMALS, ErrorLevels, Levels, error_maps, memory_maps, overlay
from salad.prepare import make_loader, make_preprocessing, scan_images
from salad.search import nearest
from salad.training_images import find_training_images

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)

NUM_NEIGHBOURS = 5
MOST_NORMALS = 500  # of val/ that errors and distances are measured on
DEVIATIONS_RANGE = (1.0, 6.0)  # where colours begin and end, in standard deviations above the mean of normals
RAW_RANGE = (0.1, 0.6)  # the same of errors where these are not known
DISTANCE_RANGE = (0.1, 0.6)  # and of distances

TrainImages = Callable[[list[int]], np.ndarray]
"""From places among the rows to the pixels of their images as decoded, (n, S0, S0) uint8."""


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
        error_range: values of the error map at which its colours begin and end; the same for all images of a run.
        memory_range: the same of the memory map.
    """

    pixels: np.ndarray
    recon: np.ndarray
    error_map: np.ndarray
    memory_map: np.ndarray | None
    neighbours: tuple[Neighbour, ...]
    error_range: tuple[float, float] = RAW_RANGE
    memory_range: tuple[float, float] = DISTANCE_RANGE

    @property
    def is_standardized(self) -> bool:
        """Whether the error map is in standard deviations."""
        return self.error_range == DEVIATIONS_RANGE

    @property
    def error_overlay(self) -> np.ndarray:
        """The error map over the image, (S, S, 3), uint8."""
        return overlay(self.pixels, self.error_map, between=self.error_range)

    @property
    def memory_overlay(self) -> np.ndarray | None:
        """The memory map over the image, (S, S, 3), uint8; None without one."""
        return None if self.memory_map is None else overlay(self.pixels, self.memory_map, between=self.memory_range)


class Seen(NamedTuple):
    """What there is to see in a batch: `recon` (B, 3, S, S), maps (B, S, S), and the neighbours with their pixels."""

    grey: Tensor
    recon: Tensor
    errors: Tensor  # in [0, 2]
    distances: Tensor | None
    near: list[list[tuple[int, float]]]  # of each image: places among the rows, and angles
    normal: dict[int, np.ndarray]  # pixels by place


class Explainer:
    """Explains images by the normal rows of a memory.

    Args:
        network: on the device; put into eval mode.
        rows: memory rows of normal images, (N, D).
        row_names: the name of the image that each row belongs to, N of them.
        train_images: gives the pixels of these images; None where they are not at hand.
        device: to compute on.
        preprocessing: of images and of those of the rows.
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
        preprocessing: Preprocessing,
        num_neighbours: int = NUM_NEIGHBOURS,
        levels: ErrorLevels | None = None,
    ) -> None:
        self.network = network.eval()
        self.rows = rows.to(device)
        self.row_names = row_names
        self.train_images = train_images
        self.device = device
        self.preprocessing = preprocessing
        self.num_neighbours = num_neighbours
        self.levels = levels
        self.memory_range = DISTANCE_RANGE
        self.most_rows = max(Counter(row_names).values())  # of one image

    @torch.no_grad()
    def explain(self, grey: Tensor) -> list[Explanation]:
        """Explain a batch.

        Args:
            grey: as decoded, (B, 1, S0, S0), uint8.

        Raises:
            InputError: a training image can no longer be read.
        """
        seen = self.look_at(grey)
        errors = seen.errors if self.levels is None else self.levels.deviations(seen.errors)
        recon = ((seen.recon.mean(dim=1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return [
            Explanation(
                pixels=seen.grey[i, 0].cpu().numpy(),
                recon=recon[i].cpu().numpy(),
                error_map=errors[i].float().cpu().numpy(),
                memory_map=None if seen.distances is None else seen.distances[i].float().cpu().numpy(),
                neighbours=tuple(
                    Neighbour(name=self.row_names[place], angle=angle, pixels=seen.normal.get(place))
                    for place, angle in seen.near[i]
                ),
                error_range=RAW_RANGE if self.levels is None else DEVIATIONS_RANGE,
                memory_range=self.memory_range,
            )
            for i in range(len(grey))
        ]

    @torch.no_grad()
    def look_at(self, grey: Tensor) -> Seen:
        """The maps of a batch as decoded, (B, 1, S0, S0), uint8, as tensors on the device."""
        grey = self.preprocessing(grey.to(self.device))
        images = _to_network(grey)
        z, recon = self.network(images)
        near = [self._neighbours(cosines, index) for cosines, index in zip(*self._nearest(z), strict=True)]
        normal, distances = self._compare(images, [[place for place, _ in one] for one in near])
        return Seen(grey, recon, error_maps(images, recon), distances, near, normal)

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
        grey = self.preprocessing(torch.from_numpy(self.train_images(needed))[:, None].to(self.device))
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
    train = None
    try:
        train = find_training_images(config, checkpoint)
    except InputError as error:
        logger.info("no memory maps: %s", error)
    images = train.images if train else None
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
        preprocessing=make_preprocessing(config, checkpoint.mean_image),
    )
    measure_on_normals(config, explainer)
    return explainer


def measure_on_normals(config: Config, explainer: Explainer) -> None:
    """Give an explainer the levels of normal images in val/ and, for memory maps, a range of colours of their own.

    Raises:
        InputError: an image cannot be read and --on_bad_image is not skip.
    """
    try:
        val = read_split(config.dataset_name, config.data_path, "val", selection=config.selection)
    except InputError as error:
        logger.debug("val/ cannot be used: %s", error)
        val = None
    if val is None or val.num_normal < MIN_NORMALS:
        logger.info("error maps are not standardized: that needs %d normal images in val/", MIN_NORMALS)
        return
    val = scan_images(config, {"val": val.only_normal()})["val"]
    errors, distances = Levels(), Levels()
    loader = make_loader(config, val, explainer.device, mean_image=explainer.preprocessing.mean_image, seed=0)
    for batch in islice(loader.epoch(0), -(-MOST_NORMALS // config.batch_size)):  # shuffled, as only some may be seen
        seen = explainer.look_at(batch.grey)
        errors.add(seen.errors)
        if seen.distances is not None:
            distances.add(seen.distances)
    explainer.levels = errors.measured()
    if (found := distances.measured()) is not None:
        low, high = DEVIATIONS_RANGE
        mean, std = float(found.mean.mean()), float(found.std.square().mean().sqrt())
        explainer.memory_range = mean + low * std, mean + high * std


def _to_network(grey: Tensor) -> Tensor:
    return to_network(grey / 255).contiguous(memory_format=torch.channels_last)
