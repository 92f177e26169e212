"""The two files of a cache: plain pixels of images, and the index that says whose they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salad.samples import Sample

VERSION = 2  # of the files, and of the pixels that a decoder makes: counted up when either changes


class Stamp(NamedTuple):
    """What an image file has to keep for its pixels to stay good."""

    name: str
    size: int
    mtime_ns: int


class Row(NamedTuple):
    """Where the pixels of an image are, and their CRC-32."""

    number: int
    crc: int


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The pixels of some images at one size.

    Attributes:
        file: rows of S * S bytes; open, so that they stay although another run replaces the cache.
        rows: of every image that could be read.
        bad: the images that could not.
    """

    file: BinaryIO
    rows: dict[Stamp, Row]
    bad: frozenset[Stamp]

    def read(self, row: Row, out: NDArray[np.uint8]) -> bool:
        """Fill an array (S, S) with a row; False where its bytes are not those that were written.

        They are read and not mapped: what was read does not stay in memory, and a failing disk is no crash.
        """
        with contextlib.suppress(OSError):
            num_bytes = os.preadv(self.file.fileno(), [out.data], row.number * out.nbytes)
            return num_bytes == out.nbytes and zlib.crc32(out.data) == row.crc
        return False


def load_cache(index_path: Path, isize: int) -> Cache | None:
    """The cache as it is on the disk; None where there is none, or no whole one of this version."""
    try:
        text = index_path.read_text(encoding="ascii")
        file = pixel_path(index_path, text).open("rb", buffering=0)
        index = json.loads(text)
        rows = {Stamp(*entry[:3]): Row(*entry[4:]) for entry in index["images"]}
        bad = frozenset(Stamp(*entry) for entry in index["bad"])
        is_whole = os.fstat(file.fileno()).st_size == len(rows) * isize * isize
        return Cache(file=file, rows=rows, bad=bad) if index["version"] == VERSION and is_whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def index_of(stamps: dict[Sample, Stamp], rows: dict[Stamp, Row]) -> str:
    """The text of an index: the row of each image, and the images that have none."""
    labels = {stamp: sample.label for sample, stamp in stamps.items()}
    bad = [stamp for stamp in stamps.values() if stamp not in rows]
    entries = [[*stamp, labels[stamp], *row] for stamp, row in rows.items()]
    return json.dumps({"version": VERSION, "images": entries, "bad": bad})


def append(file: BinaryIO, pixels: NDArray[np.uint8], number: int) -> Row:
    """Write the pixels of an image, (S, S), as the row of this number."""
    content = pixels.tobytes()
    file.write(content)
    return Row(number, zlib.crc32(content))


def to_disk(file: BinaryIO) -> None:
    """Wait until what was written would survive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def pixel_path(index_path: Path, index: str) -> Path:
    """Where the pixels of an index lie: another index never finds them."""
    return index_path.with_name(f"{index_path.stem}-{hashlib.sha256(index.encode()).hexdigest()[:16]}.u8")


FOLDER_NAME = ".salad_cache"


def choose_folder(cache: str | None, data_path: Path) -> Path | None:
    """Where to keep the cache of a data set.

    Args:
        cache: a folder, ``off``, or None for a hidden folder in `data_path` or, where that is read-only, the
            user's cache folder.
        data_path: the data set; where it is a file, the folder that holds it has the hidden one, for all
            such files.

    Returns:
        None for ``off``.
    """
    if cache == "off":
        return None
    home, inside = (data_path.parent, data_path.name) if data_path.is_file() else (data_path, "")
    if cache is None and os.access(home, os.W_OK):
        return home / FOLDER_NAME / inside
    place = data_path.resolve()
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "salad"
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    return (Path(cache) if cache else user) / f"{place.name}-{digest}"
