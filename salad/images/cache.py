"""Cache of decoded and resized images on disk, as plain pixels."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from salad.errors import printable
from salad.images.cache_file import Cache, Key, Row, append, index_of, load_cache, pixel_path, to_disk
from salad.images.decoder import Decoder
from salad.images.stamp import UNKNOWN, read_stamp
from salad.samples import Sample

logger = logging.getLogger(__name__)

LOCK_FILE = "lock"

# maps samples, in order, to their pixels (S, S) or to the reason why a sample cannot be read
Decode = Callable[[list[Sample]], Iterable["NDArray[np.uint8] | str"]]


class CachedImages:
    """Images to read from a cache.

    Args:
        cache: cache that holds all of these images, and maybe others.
        items: each sample with its row in the cache.
        decoder: decoder that made the pixels; damaged rows are decoded again with it.
    """

    def __init__(self, cache: Cache, items: list[tuple[Sample, Row]], *, decoder: Decoder) -> None:
        self.cache = cache
        self.isize = decoder.isize
        self.items = items
        self.decoder = decoder
        self._is_damaged = False

    def __len__(self) -> int:
        return len(self.items)

    @property
    def doubts(self) -> dict[Sample, str]:
        """Reason to doubt a film, of each doubtful one."""
        return {sample: row.doubt for sample, row in self.items if row.doubt}

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Read images into `out`, (len(index), S, S); rows that are damaged in the cache are decoded again.

        Args:
            index: positions of the images in `items`.
            out: array to fill, uint8.

        Raises:
            InputError: a row is damaged and its file cannot be read.
        """
        for slot, i in enumerate(index):
            sample, row = self.items[i]
            if self.cache.read(row, out[slot]):
                continue
            if not self._is_damaged:
                self._is_damaged = True
                logger.warning("%s is damaged: images are decoded again; delete it", printable(self.cache.file.name))
            out[slot] = self.decoder.read(sample)


def cached_images(
    samples: list[Sample], *, folder: Path, data_path: Path, split: str, decoder: Decoder, decode: Decode
) -> tuple[CachedImages, dict[Sample, str]]:
    """Read images from the cache, after building or updating it.

    Only files that are new, changed, or could not be read before are decoded. The index is moved into place
    last, so a build that is killed leaves no valid cache behind. A second process that needs the same cache waits
    for the first.

    Args:
        samples: images to read; some of the files may be unreadable.
        folder: folder of the caches of this data set.
        data_path: path of the data set; the cache names images by their path relative to it, so that both can be
            moved together.
        split: name of the split; there is one cache for each split and decoder.
        decoder: decoder of the images; its settings name the cache.
        decode: function that decodes the samples that are not in the cache.

    Returns:
        The readable images, in the order of the samples, and for each other one the reason why it cannot be read.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    index_path = folder / f"{split}-{decoder.key}.json"
    keys = {sample: _key(sample, data_path) for sample in samples}
    cache = load_cache(index_path, decoder.isize)
    missing, reasons = _missing(cache, keys, decode)
    if cache is None or missing:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / LOCK_FILE):
            cache = load_cache(index_path, decoder.isize)  # another process may have built it meanwhile
            missing, reasons = _missing(cache, keys, decode)
            if cache is None or missing:
                cache, new = _build(index_path, cache, keys, missing=missing, isize=decoder.isize, decode=decode)
                reasons.update(new)
    good = [(sample, cache.rows[keys[sample]]) for sample in samples if sample not in reasons]
    return CachedImages(cache, good, decoder=decoder), reasons


def find_cached(
    samples: list[Sample], *, folder: Path, data_path: Path, split: str, decoder: Decoder
) -> CachedImages | None:
    """Find images in an existing cache; None if there is no cache or it lacks one of them.

    Arguments are those of `cached_images`.
    """
    cache = load_cache(folder / f"{split}-{decoder.key}.json", decoder.isize)
    with contextlib.suppress(KeyError):
        if cache:
            items = [(sample, cache.rows[_key(sample, data_path)]) for sample in samples]
            return CachedImages(cache, items, decoder=decoder)
    return None


def _key(sample: Sample, data_path: Path) -> Key:
    """Build the key of an image from its path in the data set and the stamp of its file."""
    name = os.fspath(sample.path).removeprefix(os.path.join(data_path, ""))  # noqa: PTH118  # strings are 10 times faster
    name += "" if sample.row is None else f"#{sample.array}/{sample.row}"
    try:
        return Key(name, read_stamp(sample.path))
    except OSError:  # the decoder reports the reason
        return Key(name, UNKNOWN)


def _missing(cache: Cache | None, keys: dict[Sample, Key], decode: Decode) -> tuple[list[Sample], dict[Sample, str]]:
    """List the samples to decode into the cache, and those that still cannot be read, with the reasons.

    Known bad files are tried again: a file may have become readable without a change of its size and time.
    """
    unknown = [sample for sample, key in keys.items() if cache is None or key not in cache.rows]
    known_bad = [sample for sample in unknown if cache is not None and keys[sample] in cache.bad]
    decoded = zip(known_bad, decode(known_bad), strict=True) if known_bad else ()
    reasons = {sample: content for sample, content in decoded if isinstance(content, str)}
    return [sample for sample in unknown if sample not in reasons], reasons


def _build(
    index_path: Path,
    old: Cache | None,
    keys: dict[Sample, Key],
    *,
    missing: list[Sample],
    isize: int,
    decode: Decode,
) -> tuple[Cache, dict[Sample, str]]:
    """Write the pixels, copied from the old cache or decoded, and then the index.

    Args:
        index_path: index file to write.
        old: cache to copy pixels from; None to decode all images.
        keys: keys of all samples.
        missing: samples to decode.
        isize: side of the images, in pixels.
        decode: function that decodes samples.

    Returns:
        The new cache, and the reasons why samples cannot be read.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    kept = [sample for sample, key in keys.items() if old is not None and key in old.rows]
    num_bytes = (len(kept) + len(missing)) * isize**2
    _make_room(index_path.parent, num_bytes, num_kept=len(kept), num_missing=len(missing))
    temporary = index_path.with_suffix(f".{secrets.token_hex(8)}.partial")  # no other build writes to it
    try:
        with temporary.open("wb") as file:
            rows = _copy(file, old, [keys[sample] for sample in kept], isize=isize) if old else {}
            damaged = [sample for sample in kept if keys[sample] not in rows]
            reasons = _add(file, rows, [*missing, *damaged], keys=keys, decode=decode)
            to_disk(file)
        index = index_of(keys, rows)
        pixels = pixel_path(index_path, index)
        temporary.replace(pixels)
        with temporary.open("wb") as file:
            file.write(index.encode("ascii"))
            to_disk(file)
        temporary.replace(index_path)
    finally:
        temporary.unlink(missing_ok=True)
    for other in index_path.parent.glob(f"{index_path.stem}-*.u8"):
        if other != pixels:
            other.unlink(missing_ok=True)
    cache = load_cache(index_path, isize)
    if cache is None:
        raise OSError(f"{index_path} was removed or changed right after it was written")
    return cache, reasons


def _copy(file: BinaryIO, old: Cache, kept: list[Key], *, isize: int) -> dict[Key, Row]:
    """Copy pixels from an older cache, except rows that are damaged on the disk."""
    rows: dict[Key, Row] = {}
    pixels = np.empty((isize, isize), np.uint8)
    for key in kept:
        if old.read(old.rows[key], pixels):
            rows[key] = append(file, pixels, len(rows))
    return rows


def _add(
    file: BinaryIO, rows: dict[Key, Row], missing: list[Sample], *, keys: dict[Sample, Key], decode: Decode
) -> dict[Sample, str]:
    """Decode samples and write their pixels; return the reasons why some cannot be read."""
    reasons = {}
    for sample, content in zip(missing, decode(missing), strict=True):
        if isinstance(content, str):
            reasons[sample] = content
        else:
            rows[keys[sample]] = append(file, content, len(rows))
    return reasons


def _make_room(folder: Path, num_bytes: int, *, num_kept: int, num_missing: int) -> None:
    """Log the size of the pixels to write, and raise OSError if the disk has too little space."""
    size = f"{num_bytes / 2**20:,.1f} MiB"
    logger.info("cache: %s images to decode, %s kept, %s in %s", f"{num_missing:,}", f"{num_kept:,}", size, folder)
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(errno.ENOSPC, f"{size} are needed, {free / 2**20:,.1f} MiB are free")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Allow one build at a time.

    Without locks in the file system, simultaneous builds cost time but do no harm.
    """
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("cache: waiting for another process that builds in %s", path.parent)
        lock.acquire()
    except OSError:
        logger.debug("no locks in %s", path.parent, exc_info=True)
    else:
        for leftover in path.parent.glob("*.partial"):  # left by builds that were killed
            leftover.unlink(missing_ok=True)
    try:
        yield
    finally:
        lock.release()
