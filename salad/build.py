"""Context of a run: decoder, preprocessing, loaders and network, made from the options."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.config.parts import modules_of, trained_parts
from salad.datasets.loader import Loader
from salad.datasets.more_normals import MORE, kinds_of
from salad.device import choose_device, draw_seed, keep_freed_memory, seed_everything
from salad.distributed.team import SOLO, Team
from salad.errors import InputError
from salad.images.cache import find_cached
from salad.images.cache_file import choose_folder
from salad.images.decoder import DecodedImages, Decoder
from salad.images.preprocessing import Preprocessing
from salad.images.scan import scan
from salad.networks import NETWORKS, build_modules, build_network
from salad.networks.compiled import compile_network
from salad.samples import OWN_KIND, Images, JoinedImages, Sample, Split

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Options, device and processes of a run; makes its decoder, preprocessing, loaders and network.

    Attributes:
        config: options of the run.
        device: device to compute on.
        team: processes that run together.
        template: mean normal image to register images to, (1, 1, SIDE, SIDE); None without registration.
    """

    config: Config
    device: torch.device
    team: Team = SOLO
    template: Tensor | None = None

    @property
    def decoder(self) -> Decoder:
        """Reader of image files."""
        return make_decoder(self.config)

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of decoded images for the network.

        Raises:
            InputError: --align is on, but there is no template.
        """
        images = self.config.images
        if images.align and self.template is None:
            raise InputError(
                "--align needs the template of the training, but the checkpoint has none: leave --align out"
            )
        # on the device once, and not in every batch
        template = self.template.to(self.device) if images.align and self.template is not None else None
        return Preprocessing(kind=images.normalize, margin=images.margin, template=template)

    def scan(self, splits: dict[str, Split]) -> dict[str, Split]:
        """Decode every file once, or read it from the cache; with --on_bad_image skip, leave out unreadable files.

        Raises:
            InputError: a file cannot be read and --on_bad_image is not skip, or no file can be read.
        """
        kinds = {name: split.by_kind() for name, split in splits.items()}
        own = {name: of_kind.pop(OWN_KIND) for name, of_kind in kinds.items()}
        scanned = self._scan(own, data_path=self.config.data.data_path)
        for name, of_kind in kinds.items():
            more = [self._scan({MORE: split}, data_path=self._path_of(kind))[MORE] for kind, split in of_kind.items()]
            scanned[name] = scanned[name].joined_with(more)
        return scanned

    def _scan(self, splits: dict[str, Split], *, data_path: Path) -> dict[str, Split]:
        """Scan splits of one folder or table, which has a cache of its own."""
        data = self.config.data
        return scan(
            splits,
            decoder=self.decoder,
            num_threads=data.n_jobs_dataloader,
            on_bad_image=data.on_bad_image,
            cache=choose_folder(data.cache, data_path),
            data_path=data_path,
        )

    def _path_of(self, kind: str) -> Path:
        """Find the folder or table of a kind of images."""
        data = self.config.data
        return data.data_path if kind == OWN_KIND else kinds_of(data.more_normals or ())[kind]

    def find_images(self, split: Split, *, name: str) -> Images:
        """Open the pixels of a split without decoding: from the cache if it holds all images, else from the files.

        Args:
            split: images to open.
            name: ``train``, ``val`` or ``test``.
        """
        if split.images is not None:
            return split.images
        kinds = split.by_kind().items()
        own, *more = [self._find_of_kind(kind, of_kind.samples, name=name) for kind, of_kind in kinds]
        return JoinedImages([own, *more]) if more else own

    def _find_of_kind(self, kind: str, samples: list[Sample], *, name: str) -> Images:
        """Open the pixels of the images of one kind, for `find_images`."""
        path, name = self._path_of(kind), name if kind == OWN_KIND else MORE
        folder = choose_folder(self.config.data.cache, path)
        cached = folder and find_cached(samples, folder=folder, data_path=path, split=name, decoder=self.decoder)
        return cached or DecodedImages(samples, decoder=self.decoder)

    def loader(self, split: Split, *, seed: int | None = None) -> Loader:
        """Make a loader of a scanned split; of several processes, each loads its part of a batch. A seed shuffles."""
        assert split.images is not None and len(split.images) == len(split.samples), "call scan first"
        data = self.config.data
        return Loader(
            split.images,
            batch_size=data.batch_size,
            num_threads=data.n_jobs_dataloader,
            seed=seed,
            pin_memory=self.device.type == "cuda",
            rank=self.team.rank,
            world_size=self.team.size,
            preprocessing=self.preprocessing,
        )

    def start_network(self, start: Checkpoint | None) -> Network:
        """Make a network to train on the device, with weights from a checkpoint, ImageNet, a file, or random ones.

        A run without training gets a network without modules.

        Raises:
            InputError: the checkpoint or the weights do not fit.
        """
        config = self.config
        name, rep_dim, isize = config.network.net_name, config.network.rep_dim, config.images.size
        if not config.trains:
            if config.network.load_model is not None:
                raise InputError("--n_epochs is 0, so no network is trained: leave --load_model out")
            return build_modules(name, rep_dim=rep_dim, isize=isize, modules=())
        weights = config.network.weights
        if weights is None and NETWORKS[name].has_imagenet_trunk:
            weights = "imagenet"
        if start is not None or weights == "none":  # a checkpoint has the weights
            weights = None
        network = build_network(name, rep_dim=rep_dim, isize=isize, weights=weights)
        if start is not None:
            if start.net_name != name or not start.held:
                held = start.net_name if start.held else "no weights of a network"
                raise InputError(f"{start.path}: holds {held}, not the {name} to start from")
            start.load_into(network)
            if lacking := trained_parts(config.values(), net_name=name) - start.held:
                logger.info("%s lacks %s, which start at random", start.path, " and ".join(sorted(lacking)))
        return self._ready(network)

    def load_network(self, checkpoint: Checkpoint) -> Network:
        """Make a network to score with on the device, of the modules that a checkpoint holds, in eval mode.

        Raises:
            InputError: the weights do not fit.
        """
        config = self.config
        modules = modules_of(config.network.net_name, checkpoint.held)
        network = build_modules(
            config.network.net_name, rep_dim=config.network.rep_dim, isize=config.images.size, modules=modules
        )
        checkpoint.load_into(network)
        return self._ready(network).eval()

    def _ready(self, network: Network) -> Network:
        """Move a network to the device and, with --compile, compile it."""
        network.to(self.device).to(memory_format=torch.channels_last)  # 1.5 times as fast on a CPU
        if self.config.run.compile:
            compile_network(network, self.device)
        return network

    def check_same_for_all(self, split: Split) -> None:
        """Raise `InputError` if processes, for example on different machines, see different images."""
        own, first = split.fingerprint, self.team.from_first(lambda: split.fingerprint)
        if own != first:
            raise InputError(
                f"process {self.team.rank} finds {own}, but process 0 {first}: DATA_PATH must hold the same for all"
            )


def open_context(config: Config, *, team: Team = SOLO, template: Tensor | None = None) -> RunContext:
    """Choose the device, connect the processes, draw a seed if it is -1, and seed all random generators.

    Args:
        config: options of the run.
        team: processes that run together.
        template: template of a checkpoint, (1, 1, SIDE, SIDE).

    Raises:
        InputError: this machine lacks the device.
    """
    device = choose_device(config.run.device, team=team)
    if config.optimisation.sync_bn and team.size > 1 and device.type == "cpu":
        raise InputError(f"--sync_bn works on GPUs only, but {team.size} processes share the CPU: leave it out")
    team.connect(device)
    config = config.changed(seed=team.from_first(lambda: draw_seed(config.run.seed)))
    seed_everything(config.run.seed, deterministic=config.run.deterministic)
    if device.type == "cpu":
        keep_freed_memory()
    return RunContext(config=config, device=device, team=team, template=template)


def make_decoder(config: Config) -> Decoder:
    """Make the reader of image files."""
    images = config.images
    return Decoder(isize=images.decoded_size, resize=images.resize, trim=images.trim)
