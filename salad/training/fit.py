"""Training on images in memory, for `Detector.fit`."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from salad.build import make_decoder, open_context
from salad.checkpoint import Checkpoint, load_checkpoint
from salad.config import Config
from salad.config.recipes import describe_recipe
from salad.datasets.more_normals import describe_kinds, read_more_normals
from salad.datasets.one_class import refuse_names
from salad.errors import InputError, printable
from salad.images.doubts import doubt_line, find_doubt
from salad.images.find import images_below
from salad.images.in_memory import Source, images_of, read_source
from salad.images.listing import LeftOut
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


def fit_images(
    images: object, *, config: Config, val_share: float, folder: RunFolder, more_normals: Sequence[object] = ()
) -> Checkpoint:
    """Train on normal images and write the same run folder as main.py, except for log.txt.

    The state of the random generators of the process is restored.

    Args:
        images: images of `images_of`.
        config: options of the run; its data set is not used.
        val_share: share of the images to hold out for calibrating the score, at least one image; 0 for none.
        folder: folder of the run; a run in it is replaced.
        more_normals: further normal images, which are never held out, a member for each kind: a folder or a table of
            --more_normals, or images of `images_of` other than a path.

    Raises:
        InputError: an image or a folder cannot be read, there are too few images, or another training uses the folder.
        DivergedError: a loss is not finite.
    """
    _refuse_abnormal(images)
    if config.run.recipe:
        logger.info(describe_recipe(config.run.recipe, config.values()))
    decoded = _decode(_own(images), config)
    num_own = len(decoded)
    if not num_own:
        raise InputError("there are no images to train on")
    decoded = _without_copies([*decoded, *_decode(_more(more_normals), config)], num_own=num_own)
    before = rng_state()
    with folder.lock():
        try:
            context = open_context(config)
            config = context.config
            train, val = _hold_out(decoded, num_own=num_own, share=val_share, seed=config.run.seed)
            if more_normals:
                logger.info("normal images of the memory: %s", describe_kinds(train.kinds))
            check_sizes(config, train)
            start = load_checkpoint(config.network.load_model) if config.network.load_model else None
            context = replace(context, template=make_template(context, train))
            trainer = Trainer(context, folder, train=train, val=val, start=start)
            write_start(trainer, resumed=False)
            trainer.run()
        finally:
            set_rng_state(before)
    return load_checkpoint(folder.model)


class _Decoded(NamedTuple):
    """Image with its pixels, (S, S)."""

    sample: Sample
    pixels: NDArray[np.uint8]


def _refuse_abnormal(images: object) -> None:
    """Raise `InputError` if a folder among the images to train on holds one whose name says abnormal."""
    members = [images] if isinstance(images, (str, Path)) else images if isinstance(images, (list, tuple)) else ()
    for folder in (Path(member) for member in members if isinstance(member, (str, Path)) and os.path.isdir(member)):  # noqa: PTH112
        files = images_below(folder, left_out=LeftOut())  # what is left out is said when they are read
        way_out = "give the folder of its normal images instead"
        refuse_names(folder, files, label=NORMAL, option="", way_out=way_out)


def _own(images: object) -> Iterator[tuple[Source, Sample]]:
    """List the images to train on and to hold out."""
    for number, source in enumerate(images_of(images)):
        path = source if isinstance(source, Path) else Path(f"image {number}")
        yield source, Sample(path, printable(path), NORMAL)


def _more(more_normals: Sequence[object]) -> Iterator[tuple[Source, Sample]]:
    """List further normal images; those of a member that is no path are called after its number.

    Raises:
        InputError: a path is neither a folder nor a table, or a member is not of images.
    """
    if isinstance(more_normals, (str, Path)):
        raise InputError(f"more_normals is {more_normals}, but must be a list: give [{str(more_normals)!r}]")
    paths = [Path(member) for member in more_normals if isinstance(member, (str, Path))]
    yield from ((sample.path, sample) for sample in read_more_normals(paths))
    for number, member in enumerate(more_normals, start=1):
        if not isinstance(member, (str, Path)):
            kind = f"more normals {number}"
            yield from ((source, replace(sample, kind=kind)) for source, sample in _own(member))


def _decode(listed: Iterable[tuple[Source, Sample]], config: Config) -> list[_Decoded]:
    """Decode images; threads read the files.

    Raises:
        InputError: an image cannot be read.
    """
    decoder = make_decoder(config)

    def read(image: tuple[Source, Sample]) -> _Decoded:
        return _Decoded(image[1], read_source(image[0], decoder))

    decoded = list(map_in_order(read, listed, num_threads=config.data.n_jobs_dataloader))
    doubts = [(image.sample.name, doubt) for image in decoded if (doubt := find_doubt(image.pixels))]
    if doubts:
        logger.warning("doubt: %s", doubt_line("train", doubts, num_images=len(decoded)))
    return decoded


def _without_copies(decoded: list[_Decoded], *, num_own: int) -> list[_Decoded]:
    """Leave out further images with the pixels of an earlier one, which may be held out; own images all stay."""
    digests = [hashlib.sha256(image.pixels.tobytes()).digest() for image in decoded]
    seen, kept = set(digests[:num_own]), decoded[:num_own]
    for image, digest in zip(decoded[num_own:], digests[num_own:], strict=True):
        if digest not in seen:
            seen.add(digest)
            kept.append(image)
    if num_copies := len(decoded) - len(kept):
        logger.info("more normals: left out %d copies of other images", num_copies)
    return kept


def _hold_out(decoded: list[_Decoded], *, num_own: int, share: float, seed: int) -> tuple[Split, Split | None]:
    """Split the own images at random into those to train on, which all further ones join, and those to hold out.

    Raises:
        InputError: no image is left to train on.
    """
    num_val = max(1, round(share * num_own)) if share else 0
    if num_own <= num_val:
        raise InputError(
            f"there are {num_own} images, and {num_val} are held out (val_share {share}): give more images"
        )
    order = np.random.default_rng(seed).permutation(num_own).tolist()
    parts = [[*sorted(order[num_val:]), *range(num_own, len(decoded))], sorted(order[:num_val])]
    pixels = np.stack([image.pixels for image in decoded])
    train, val = (
        Split(
            samples=[decoded[i].sample for i in rows],
            normal_class="",
            classes=(),
            images=HeldImages(pixels, rows),
        )
        for rows in parts
    )
    return train, val if num_val else None
