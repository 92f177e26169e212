"""Find images of identical content, reading only files that can be identical."""

from __future__ import annotations

import hashlib
import math
import stat
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from salad.errors import InputError
from salad.images.npz import row_shape, stored_row
from salad.images.threads import map_in_chunks
from salad.samples import Sample

PROBE_BYTES = 4096
READ_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Groups of identical samples.

    Attributes:
        groups: indices of samples with identical content, two or more per group.
        num_unread: number of samples not compared because of the limit on bytes.
    """

    groups: list[list[int]]
    num_unread: int


def file_sizes(samples: list[Sample], *, num_threads: int) -> list[int | None]:
    """Read the size of each sample's file in bytes; None for a row of an array and for an unreadable file."""
    return map_in_chunks(_file_size, samples, num_threads=num_threads)


def _file_size(sample: Sample) -> int | None:
    try:
        status = sample.path.stat()
    except OSError:
        return None
    return status.st_size if sample.row is None and stat.S_ISREG(status.st_mode) else None


def find_duplicates(samples: list[Sample], *, num_threads: int, max_bytes: int | None = None) -> Duplicates:
    """Find samples whose files have the same bytes, or whose array rows have the same pixels.

    Files of equal size are compared by a few kilobytes from the middle, which differ between compressed images and
    show anatomy in uncompressed ones. Files that still agree are compared by SHA-256.

    Args:
        samples: files and rows of arrays.
        num_threads: number of threads that read.
        max_bytes: limit on the bytes that are hashed, not counting the middles of files; None for no limit.

    Returns:
        The groups, sorted.
    """
    map_all = partial(map_in_chunks, num_threads=num_threads, size=16)
    sizes = file_sizes(samples, num_threads=num_threads)
    files = [i for i, size in enumerate(sizes) if size]
    files = _alike(files, [sizes[i] for i in files])
    probes = map_all(lambda i: _probe(samples[i].path, sizes[i] or 0), files)
    files = _alike(files, probes)
    rows = [i for i, sample in enumerate(samples) if sample.row is not None]
    sizes_of_rows = dict(zip(rows, map_all(lambda i: _row_bytes(samples[i]), rows), strict=True))
    wanted, num_bytes = [], 0
    for i in rows + sorted(
        files, key=lambda i: sizes[i] or 0
    ):  # files of equal size stay together, so that the limit seldom separates duplicates
        num_bytes += sizes_of_rows.get(i) or sizes[i] or 0
        if max_bytes is not None and num_bytes > max_bytes:
            break
        wanted.append(i)
    same = _groups(wanted, map_all(lambda i: _digest(samples[i]), wanted))
    return Duplicates(groups=sorted(same), num_unread=len(rows) + len(files) - len(wanted))


def _groups(indices: list[int], keys: list[Hashable]) -> list[list[int]]:
    """Group indices with equal keys, two or more per group; a key of None equals no other."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in zip(indices, keys, strict=True):
        if key is not None:
            groups[key].append(index)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def _alike(indices: list[int], keys: list[Hashable]) -> list[int]:
    return [index for group in _groups(indices, keys) for index in group]


def _probe(path: Path, size: int) -> Hashable:
    """Read the size of a file and a hash of the bytes in its middle."""
    return _unless_unreadable(lambda: (size, hashlib.sha256(_middle(path, size)).digest()))


def _middle(path: Path, size: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(max(0, (size - PROBE_BYTES) // 2))
        return file.read(PROBE_BYTES)


def _row_bytes(sample: Sample) -> int:
    try:
        return math.prod(row_shape(sample))
    except InputError:
        return 0


def _digest(sample: Sample) -> Hashable:
    if sample.row is None:
        return _unless_unreadable(lambda: _sha256(sample.path))
    return _unless_unreadable(lambda: (row_shape(sample), hashlib.sha256(stored_row(sample).tobytes()).digest()))


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
    return digest.digest()


def _unless_unreadable(read: Callable[[], Hashable]) -> Hashable:
    """Call a function; return None if the file cannot be read, which the scan of all images reports."""
    try:
        return read()
    except (OSError, InputError):
        return None
