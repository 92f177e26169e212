"""Stamp of a file, by which a changed file is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """Size and times of a file; its content is the same while these stay the same.

    Tools such as rsync -t, cp -p and tar give a new file the modification time of another one. No program can set the
    change time, so a file that was replaced always has another stamp.

    Attributes:
        size: in bytes.
        mtime_ns: modification time, in nanoseconds.
        ctime_ns: time of the last change of content, name or permissions, in nanoseconds.
    """

    size: int
    mtime_ns: int
    ctime_ns: int


UNKNOWN = Stamp(-1, -1, -1)


def read_stamp(path: Path) -> Stamp:
    """Read the stamp of a file; of a link, that of its target.

    Raises:
        OSError: the file does not exist or cannot be looked up.
    """
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
