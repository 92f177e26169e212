"""Training on images in memory, for `Detector.fit`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salad.build import make_decoder, open_context
from salad.checkpoint import Checkpoint, load_checkpoint
from salad.config import Config
from salad.config.recipes import describe_recipe
from salad.errors import InputError, printable
from salad.images.doubts import doubt_line, find_doubt
from salad.images.in_memory import Source, images_of, read_source
from salad.images.threads import map_in_order
from salad.runs.folder import RunFolder
from salad.samples import NORMAL, Sample, Split
from salad.training.data import check_sizes
from salad.training.rng import rng_state, set_rng_state
from salad.training.run import write_start
from salad.training.template import make_template
from salad.training.trainer import Trainer

logger = logging.getLogger(__name__)


class HeldImages:
    """Images of a split, in an array of all images.

    Args:
        pixels: pixels of all images, (N, S, S).
        rows: index in `pixels` of each image of the split.
    """

    def __init__(self, pixels: NDArray[np.uint8], rows: list[int]) -> None:
        self.pixels = pixels
        self.rows = rows
        self.isize = pixels.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Copy the images with these indices into `out`, (len(index), S, S)."""
        out[:] = self.pixels[[self.rows[i] for i in index]]


def fit_images(images: object, *, config: Config, val_share: float, folder: RunFolder) -> Checkpoint:
    """Train on normal images and write the same run folder as main.py, except for log.txt.

    The state of the random generators of the process is restored.

    Args:
        images: images of `images_of`.
        config: options of the run; its data set is not used.
        val_share: share of the images to hold out for calibrating the score, at least one image; 0 for none.
        folder: folder of the run; a run in it is replaced.

    Raises:
        InputError: an image cannot be read, there are too few images, or another training uses the folder.
        DivergedError: a loss is not finite.
    """
    if config.run.recipe:
        logger.info(describe_recipe(config.run.recipe, config.values()))
    pixels, samples = _decode(images, config)
    before = rng_state()
    with folder.lock():
        try:
            context = open_context(config)
            config = context.config
            train, val = _hold_out(pixels, samples, share=val_share, seed=config.run.seed)
            check_sizes(config, train)
            start = load_checkpoint(config.network.load_model) if config.network.load_model else None
            context = dataclasses.replace(context, template=make_template(context, train))
            trainer = Trainer(context, folder, train=train, val=val, start=start)
            write_start(trainer, resumed=False)
            trainer.run()
        finally:
            set_rng_state(before)
    return load_checkpoint(folder.model)


def _decode(images: object, config: Config) -> tuple[NDArray[np.uint8], list[Sample]]:
    """Decode images to pixels (N, S, S) and list them; threads read the files.

    Raises:
        InputError: an image cannot be read, or there is none.
    """
    decoder = make_decoder(config)
    samples: list[Sample] = []

    def listed() -> Iterator[Source]:
        for source in images_of(images):
            path = source if isinstance(source, Path) else Path(f"image {len(samples)}")
            samples.append(Sample(path, printable(path), NORMAL))
            yield source

    read = partial(read_source, decoder=decoder)
    pixels = list(map_in_order(read, listed(), num_threads=config.data.n_jobs_dataloader))
    if not pixels:
        raise InputError("there are no images to train on")
    doubts = zip(samples, map(find_doubt, pixels), strict=True)
    if doubted := [(sample.name, doubt) for sample, doubt in doubts if doubt]:
        logger.warning("doubt: %s", doubt_line("train", doubted, num_images=len(pixels)))
    return np.stack(pixels), samples


def _hold_out(
    pixels: NDArray[np.uint8], samples: list[Sample], *, share: float, seed: int
) -> tuple[Split, Split | None]:
    """Split images at random into those to train on and those to hold out.

    Raises:
        InputError: no image is left to train on.
    """
    num_val = max(1, round(share * len(samples))) if share else 0
    if len(samples) <= num_val:
        raise InputError(
            f"there are {len(samples)} images, and {num_val} are held out (val_share {share}): give more images"
        )
    order = np.random.default_rng(seed).permutation(len(samples)).tolist()
    parts = [sorted(order[num_val:]), sorted(order[:num_val])]
    train, val = (
        Split(
            samples=[samples[i] for i in rows],
            normal_class="",
            classes=(),
            images=HeldImages(pixels, rows),
        )
        for rows in parts
    )
    return train, val if num_val else None
