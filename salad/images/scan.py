"""Decode every file once before a run, so that a damaged file is found at once and not after hours."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from salad.errors import InputError, printable
from salad.images.cache import CachedImages, cached_images
from salad.images.decoder import DecodedImages, Decoder
from salad.images.doubts import NAMED, doubt_line, find_doubt
from salad.images.npz import forget
from salad.images.threads import map_in_order
from salad.runs.atomic import atomic_file
from salad.runs.csv_file import read_csv, write_csv
from salad.samples import Sample, Skipped, Split

logger = logging.getLogger(__name__)

SKIPPED_FILE = "skipped.csv"
SHOWN_ON_SCREEN = 20  # bad files to show; log.txt has all


def scan(
    splits: dict[str, Split],
    *,
    decoder: Decoder,
    num_threads: int,
    on_bad_image: str,
    cache: Path | None = None,
    data_path: Path = Path(),
) -> dict[str, Split]:
    """Decode every file of the given splits once, into a cache or only to check that it can be read.

    Args:
        splits: splits by name, ``train``, ``val`` or ``test``.
        decoder: decoder of the images.
        num_threads: threads that decode; 0 decodes in the calling thread.
        on_bad_image: ``error`` to stop at bad files, or ``skip`` to leave them out.
        cache: folder of the caches of this data set; None for no cache.
        data_path: path of the data set.

    Returns:
        The splits with `images`, and with the bad files moved from `samples` to `skipped`.

    Raises:
        InputError: there are bad files, all of which are logged; or with ``skip``, a split has only bad files.
    """
    read = partial(_read_split, decoder=decoder, num_threads=num_threads, cache=cache, data_path=data_path)
    kept = {name: read(name, split) for name, split in splits.items()}
    if cache is not None:
        forget()  # the cache has the pixels of the arrays now
    num_samples = sum(len(split.samples) for split in splits.values())
    skipped = [file for split in kept.values() for file in split.skipped]
    if skipped:
        _log(skipped, logging.WARNING if on_bad_image == "skip" else logging.ERROR)
    folders = " and ".join(f"{name}/" for name in splits)
    count = f"{len(skipped)} of {num_samples} images of {folders}"
    if skipped and on_bad_image == "error":
        raise InputError(
            f"{count} cannot be read, the first is {skipped[0].name} ({skipped[0].reason}); log.txt names each: "
            "repair or remove them, or leave them out with --on_bad_image skip"
        )
    for name, split in kept.items():
        if split.skipped and not split.samples:
            raise InputError(f"none of the {len(split.skipped)} images of {name}/ can be read; log.txt says why")
    if skipped:
        logger.warning("%s cannot be read and are left out; %s names them", count, SKIPPED_FILE)
    return kept


def _read_split(
    name: str, split: Split, *, decoder: Decoder, num_threads: int, cache: Path | None, data_path: Path
) -> Split:
    """Decode a split, and return it with its images and without its bad files."""
    decode = partial(decode_samples, decoder=decoder, num_threads=num_threads)
    images: CachedImages | None = None
    doubts: dict[Sample, str] = {}
    if cache is not None:
        try:
            images, reasons = cached_images(
                split.samples, folder=cache, data_path=data_path, split=name, decoder=decoder, decode=decode
            )
        except OSError as error:
            logger.warning("%s: no cache there (%s); files are decoded in every epoch", cache, error.strerror or error)
    if images is None:
        reasons = {}
        for sample, content in zip(split.samples, decode(split.samples), strict=True):
            if isinstance(content, str):
                reasons[sample] = content
            elif doubt := find_doubt(content):
                doubts[sample] = doubt
    _log_doubts(name, images.doubts if images else doubts, num_images=len(split.samples) - len(reasons))
    good = [sample for sample in split.samples if sample not in reasons]
    skipped = (Skipped(sample.name, reasons[sample], name) for sample in split.samples if sample in reasons)
    return replace(
        split,
        samples=good,
        skipped=tuple(skipped),
        images=images or DecodedImages(good, decoder=decoder),
    )


def decode_samples(samples: list[Sample], *, decoder: Decoder, num_threads: int) -> Iterator[NDArray[np.uint8] | str]:
    """Decode samples, a few files ahead of the caller.

    Args:
        samples: samples to decode.
        decoder: decoder of the images.
        num_threads: threads that decode; 0 decodes in the calling thread.

    Yields:
        The pixels of each sample, (S, S), or in one line the reason why it cannot be read.
    """

    def decode(sample: Sample) -> NDArray[np.uint8] | str:
        """Decode a sample, or give the reason why it cannot be read."""
        try:
            return decoder.read(sample)
        except InputError as error:
            return str(error).removeprefix(f"{printable(sample.path)}: ")

    with tqdm(total=len(samples), desc="decoding", unit=" images", leave=False, disable=None) as bar:
        for content in map_in_order(decode, samples, num_threads=num_threads):
            yield content
            bar.update()


def _log_doubts(name: str, doubts: dict[Sample, str], *, num_images: int) -> None:
    """Warn of doubtful films in one line, and list all of them in log.txt."""
    doubted = [(sample.name, doubt) for sample, doubt in doubts.items()]
    if doubted:
        more = "; log.txt names each" if len(doubted) > NAMED else ""
        logger.warning("doubt: %s%s", doubt_line(name, doubted, num_images=num_images), more)
    for film, doubt in doubted if len(doubted) > NAMED else ():
        logger.warning("%s: %s", film, doubt, extra={"only_in_file": True})


def _log(skipped: list[Skipped], level: int) -> None:
    """Log all bad files, and show the first `SHOWN_ON_SCREEN` of them."""
    for number, file in enumerate(skipped):
        logger.log(level, "%s: %s", file.name, file.reason, extra={"only_in_file": number >= SHOWN_ON_SCREEN})
    if len(skipped) > SHOWN_ON_SCREEN:
        logger.log(level, "... and %d more, see log.txt", len(skipped) - SHOWN_ON_SCREEN)


def write_skipped(xp_path: Path, skipped: tuple[Skipped, ...], *, scanned: tuple[str, ...]) -> None:
    """Write skipped.csv (path, reason, split).

    Training and scoring share the file: lines about splits that were not scanned this time are kept. Without any
    line, the file is removed.

    Args:
        xp_path: run folder.
        skipped: files that were left out.
        scanned: names of the scanned splits, with or without bad files.
    """
    path = xp_path / SKIPPED_FILE
    lines = [line for line in _read_skipped(path) if line.split not in scanned] + list(skipped)
    if not lines:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as temporary:
        write_csv(temporary, [("path", "reason", "split"), *((line.name, line.reason, line.split) for line in lines)])


def _read_skipped(path: Path) -> list[Skipped]:
    """Read the lines of an earlier run; a file of another format counts as empty."""
    try:
        return [Skipped(line["path"], line["reason"], line["split"]) for line in read_csv(path)]
    except (OSError, ValueError, KeyError):
        return []
