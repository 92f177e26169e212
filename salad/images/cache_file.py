"""Files of a cache: one of plain pixels, and an index that assigns its rows to images."""

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

from salad.images.doubts import find_doubt
from salad.input_files import open_input, parse_json, read_input
from salad.samples import Sample

VERSION = 3  # raised when the file format changes, or the pixels that a decoder makes


class Stamp(NamedTuple):
    """Name, size and modification time of an image file; its cached pixels are valid while these stay the same.

    Attributes:
        name: path in the data set, with the array and row of an image in an .npz file.
        size: in bytes.
        mtime_ns: modification time, in nanoseconds.
    """

    name: str
    size: int
    mtime_ns: int


class Row(NamedTuple):
    """Row of an image in the pixel file.

    Attributes:
        number: row number, from 0.
        crc: CRC-32 of the pixels.
        doubt: reason to doubt that the pixels are a film, see `find_doubt`.
    """

    number: int
    crc: int
    doubt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Cached pixels of images of one size.

    Attributes:
        file: pixel file, in rows of S * S bytes; kept open, so that it stays readable when another run replaces it.
        rows: row of every readable image.
        bad: stamps of the unreadable images.
    """

    file: BinaryIO
    rows: dict[Stamp, Row]
    bad: frozenset[Stamp]

    def read(self, row: Row, out: NDArray[np.uint8]) -> bool:
        """Fill an array (S, S) with a row; return False if its bytes are not those that were written.

        The file is read and not memory-mapped: so pixels do not stay in memory, and a failing disk does not crash
        the process.
        """
        with contextlib.suppress(OSError):
            num_bytes = os.preadv(self.file.fileno(), [out.data], row.number * out.nbytes)
            return num_bytes == out.nbytes and zlib.crc32(out.data) == row.crc
        return False


def load_cache(index_path: Path, isize: int) -> Cache | None:
    """Load a cache from disk; None if it is absent, incomplete or of another version."""
    try:
        text = read_input(index_path).decode("ascii")
        file = open_input(pixel_path(index_path, text))
        index = parse_json(text)
        rows = {Stamp(*entry[:3]): Row(*entry[4:]) for entry in index["images"]}
        bad = frozenset(Stamp(*entry) for entry in index["bad"])
        is_whole = os.fstat(file.fileno()).st_size == len(rows) * isize * isize
        is_whole = is_whole and all(type(row.number) is int and 0 <= row.number < len(rows) for row in rows.values())
        return Cache(file=file, rows=rows, bad=bad) if index["version"] == VERSION and is_whole else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def index_of(stamps: dict[Sample, Stamp], rows: dict[Stamp, Row]) -> str:
    """Write the text of an index: the row of each readable image, and the stamps of the unreadable ones."""
    labels = {stamp: sample.label for sample, stamp in stamps.items()}
    bad = [stamp for stamp in stamps.values() if stamp not in rows]
    entries = [[*stamp, labels[stamp], *row] for stamp, row in rows.items()]
    return json.dumps({"version": VERSION, "images": entries, "bad": bad})


def append(file: BinaryIO, pixels: NDArray[np.uint8], number: int) -> Row:
    """Append the pixels of an image, (S, S), to the pixel file, as the row of this number."""
    content = pixels.tobytes()
    file.write(content)
    return Row(number, zlib.crc32(content), find_doubt(pixels))


def to_disk(file: BinaryIO) -> None:
    """Flush a file to the disk, so that its content survives a power cut."""
    file.flush()
    os.fsync(file.fileno())


def pixel_path(index_path: Path, index: str) -> Path:
    """Path of the pixel file of an index; a digest of the index in its name keeps the two together."""
    return index_path.with_name(f"{index_path.stem}-{hashlib.sha256(index.encode()).hexdigest()[:16]}.u8")


FOLDER_NAME = ".salad_cache"


def choose_folder(cache: str | None, data_path: Path) -> Path | None:
    """Choose the folder for the cache of a data set.

    Args:
        cache: a folder; ``off``; or None for a hidden folder in `data_path` or, if that is read-only, the user's
            cache folder.
        data_path: path of the data set; if it is a file, the hidden folder lies beside it and serves all such files.

    Returns:
        The folder; None for ``off``.
    """
    if cache == "off":
        return None
    home, inside = (data_path.parent, data_path.name) if data_path.is_file() else (data_path, "")
    if cache is None and os.access(home, os.W_OK):
        return home / FOLDER_NAME / inside
    path = data_path.resolve()
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "salad"
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return (Path(cache) if cache else user) / f"{path.name}-{digest}"
