"""Images of the same content, found without reading what cannot be the same."""

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
    """Which of some samples are the same.

    Attributes:
        groups: places, in the list of samples, of images with one content; each group has two or more.
        num_unread: images left out because reading them would have gone beyond the bound.
    """

    groups: list[list[int]]
    num_unread: int


def file_sizes(samples: list[Sample], *, num_threads: int) -> list[int | None]:
    """Bytes of each sample's file; None for rows of an array and for what is no file that can be read."""
    return map_in_chunks(_file_size, samples, num_threads=num_threads)


def _file_size(sample: Sample) -> int | None:
    try:
        found = sample.path.stat()
    except OSError:
        return None
    return found.st_size if sample.row is None and stat.S_ISREG(found.st_mode) else None


def find_duplicates(samples: list[Sample], *, num_threads: int, max_bytes: int | None = None) -> Duplicates:
    """Find samples whose files have the same bytes, or whose rows of an array the same pixels.

    Of files that share their size with another, a few kilobytes in the middle are compared, where compressed
    images differ and uncompressed ones show anatomy; of those that still agree, the SHA-256.

    Args:
        samples: files and rows.
        num_threads: threads that read.
        max_bytes: how much of files and rows may be read, probes aside; None for all.
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
    for i in rows + sorted(files, key=lambda i: sizes[i] or 0):  # files of one size stay together
        num_bytes += sizes_of_rows.get(i) or sizes[i] or 0
        if max_bytes is not None and num_bytes > max_bytes:
            break
        wanted.append(i)
    same = _groups(wanted, map_all(lambda i: _digest(samples[i]), wanted))
    return Duplicates(groups=sorted(same), num_unread=len(rows) + len(files) - len(wanted))


def _groups(places: list[int], keys: list[Hashable]) -> list[list[int]]:
    """Places whose keys agree, where two or more do; a key of None agrees with none."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in zip(places, keys, strict=True):
        if key is not None:
            groups[key].append(place)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def _alike(places: list[int], keys: list[Hashable]) -> list[int]:
    return [place for group in _groups(places, keys) for place in group]


def _probe(path: Path, size: int) -> Hashable:
    """The size and the bytes in the middle."""
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
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.digest()


def _unless_unreadable(read: Callable[[], Hashable]) -> Hashable:
    """None for a file that cannot be read: the check of all images says so."""
    try:
        return read()
    except (OSError, InputError):
        return None
