"""Every image decoded and resized once, kept on disk as plain pixels."""

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
from salad.images.cache_file import Cache, Row, Stamp, append, index_of, load_cache, pixel_path, to_disk
from salad.images.decoder import Decoder
from salad.samples import Sample

logger = logging.getLogger(__name__)

LOCK_FILE = "lock"

# from samples to their pixels (S, S), or to the reason why there are none, in the same order
Decode = Callable[[list[Sample]], Iterable["NDArray[np.uint8] | str"]]


class CachedImages:
    """Some images of a cache.

    Args:
        cache: holds all of them.
        items: each with its row.
        decoder: made the pixels.
    """

    def __init__(self, cache: Cache, items: list[tuple[Sample, Row]], *, decoder: Decoder) -> None:
        self.cache = cache
        self.isize = decoder.isize
        self.items = items
        self.decoder = decoder
        self._is_damaged = False

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Read some rows into `out`, (len(index), S, S); what is damaged in the cache is decoded anew."""
        for place, i in enumerate(index):
            sample, row = self.items[i]
            if self.cache.read(row, out[place]):
                continue
            if not self._is_damaged:
                self._is_damaged = True
                logger.warning("%s is damaged: images are decoded anew; delete it", printable(self.cache.file.name))
            out[place] = self.decoder.read(sample)


def cached_images(
    samples: list[Sample], *, folder: Path, data_path: Path, split: str, decoder: Decoder, decode: Decode
) -> tuple[CachedImages, dict[Sample, str]]:
    """Some images out of the cache, which is built or brought up to date first.

    Only files that are new, changed, or could not be read before are decoded. The index is moved into place
    last, so a build that is killed leaves nothing that counts; a second process that wants the same waits for
    the first.

    Args:
        samples: good and bad images.
        folder: of the caches of this data set.
        data_path: the data set; images in it are known by their place in it, so that both can move together.
        split: its name; each has one cache for every decoder.
        decoder: makes the pixels.
        decode: runs it over the samples that are not in the cache.

    Returns:
        The good images, in the order of the samples, and why each of the bad ones cannot be read.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    index_path = folder / f"{split}-{decoder.key}.json"
    stamps = {sample: _stamp(sample, data_path) for sample in samples}
    cache = load_cache(index_path, decoder.isize)
    missing, reasons = _missing(cache, stamps, decode)
    if cache is None or missing:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / LOCK_FILE):
            cache = load_cache(index_path, decoder.isize)  # another process may have built it meanwhile
            missing, reasons = _missing(cache, stamps, decode)
            if cache is None or missing:
                cache, found = _build(index_path, cache, stamps, missing=missing, isize=decoder.isize, decode=decode)
                reasons.update(found)
    good = [(sample, cache.rows[stamps[sample]]) for sample in samples if sample not in reasons]
    return CachedImages(cache, good, decoder=decoder), reasons


def find_cached(
    samples: list[Sample], *, folder: Path, data_path: Path, split: str, decoder: Decoder
) -> CachedImages | None:
    """Some images of a cache as it is; None where it does not hold all of them; see `cached_images`."""
    cache = load_cache(folder / f"{split}-{decoder.key}.json", decoder.isize)
    with contextlib.suppress(KeyError):
        if cache:
            return CachedImages(cache, [(one, cache.rows[_stamp(one, data_path)]) for one in samples], decoder=decoder)
    return None


def _stamp(sample: Sample, data_path: Path) -> Stamp:
    name = os.fspath(sample.path).removeprefix(os.path.join(data_path, ""))  # noqa: PTH118  # of strings: ten times faster
    name += "" if sample.row is None else f"#{sample.array}/{sample.row}"
    try:
        found = sample.path.stat()
    except OSError:  # its decoder will say why
        return Stamp(name, -1, -1)
    return Stamp(name, found.st_size, found.st_mtime_ns)


def _missing(
    cache: Cache | None, stamps: dict[Sample, Stamp], decode: Decode
) -> tuple[list[Sample], dict[Sample, str]]:
    """The samples to decode into the cache, and those known as bad that still are: access may have been granted."""
    unknown = [sample for sample, stamp in stamps.items() if cache is None or stamp not in cache.rows]
    known_bad = [sample for sample in unknown if cache is not None and stamps[sample] in cache.bad]
    found = zip(known_bad, decode(known_bad), strict=True) if known_bad else ()
    reasons = {sample: content for sample, content in found if isinstance(content, str)}
    return [sample for sample in unknown if sample not in reasons], reasons


def _build(
    index_path: Path,
    old: Cache | None,
    stamps: dict[Sample, Stamp],
    *,
    missing: list[Sample],
    isize: int,
    decode: Decode,
) -> tuple[Cache, dict[Sample, str]]:
    """Write the pixels, kept and decoded ones, then the index; also gives why some files cannot be read."""
    kept = [sample for sample, stamp in stamps.items() if old is not None and stamp in old.rows]
    num_bytes = (len(kept) + len(missing)) * isize**2
    _make_room(index_path.parent, num_bytes, num_kept=len(kept), num_missing=len(missing))
    temporary = index_path.with_suffix(f".{secrets.token_hex(8)}.partial")  # no other build writes to it
    try:
        with temporary.open("wb") as file:
            rows = _copy(file, old, [stamps[sample] for sample in kept], isize=isize) if old else {}
            damaged = [sample for sample in kept if stamps[sample] not in rows]
            reasons = _add(file, rows, [*missing, *damaged], stamps=stamps, decode=decode)
            to_disk(file)
        index = index_of(stamps, rows)
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
        raise OSError(f"{index_path} is gone as soon as it was written")
    return cache, reasons


def _copy(file: BinaryIO, old: Cache, kept: list[Stamp], *, isize: int) -> dict[Stamp, Row]:
    """Write the pixels that an older cache holds; those that are damaged on the disk are left out."""
    rows: dict[Stamp, Row] = {}
    pixels = np.empty((isize, isize), np.uint8)
    for stamp in kept:
        if old.read(old.rows[stamp], pixels):
            rows[stamp] = append(file, pixels, len(rows))
    return rows


def _add(
    file: BinaryIO, rows: dict[Stamp, Row], missing: list[Sample], *, stamps: dict[Sample, Stamp], decode: Decode
) -> dict[Sample, str]:
    """Write the pixels of files, and say why some cannot be read."""
    reasons = {}
    for sample, content in zip(missing, decode(missing), strict=True):
        if isinstance(content, str):
            reasons[sample] = content
        else:
            rows[stamps[sample]] = append(file, content, len(rows))
    return reasons


def _make_room(folder: Path, num_bytes: int, *, num_kept: int, num_missing: int) -> None:
    """Say what is about to be written, and refuse it where it does not fit."""
    size = f"{num_bytes / 2**20:,.1f} MiB"
    logger.info("cache: %d images to decode, %d kept, %s in %s", num_missing, num_kept, size, folder)
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(errno.ENOSPC, f"{size} are needed, {free / 2**20:,.1f} MiB are free")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One build at a time; where the file system has no locks, builds at once cost time and do no harm."""
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("cache: waiting for another process that builds in %s", path.parent)
        lock.acquire()
    except OSError:
        logger.debug("no locks in %s", path.parent, exc_info=True)
    else:
        for leftover in path.parent.glob("*.partial"):  # of builds that were killed
            leftover.unlink(missing_ok=True)
    try:
        yield
    finally:
        lock.release()
