"""Detect JPEGs that are cut off or have a hole, both of which decoders fill with grey or noise and report to nobody."""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from salad.errors import InputError

BASELINE, PROGRESSIVE = {0xC0, 0xC1}, 0xC2  # kinds of frames with Huffman codes
TABLES, END_OF_IMAGE, START_OF_SCAN, TEMPORARY = 0xC4, 0xD9, 0xDA, 0x01
RESTARTS = 0xD0, 0xD7  # first and last; they stand inside coded pixels
# No film of 4,780 has a run of 32 equal bytes in its coded pixels. Large flat areas, such as padding, can have.
MIN_RUN = 64
RUN = re.compile(rb"(.)\1{%d}" % (MIN_RUN - 1), re.DOTALL)
MAX_TESTED = 4  # pieces between restarts to decode again and again
OTHER = b"\x5a\xa5\x3c\xc3" * 8


class Scan(NamedTuple):
    """Coded pixels of a JPEG.

    Attributes:
        start: position of their first byte.
        end: position behind their last byte.
        is_last: True if the end of the image follows.
        is_flat_zero: True if zeros may be the code of a flat area.
    """

    start: int
    end: int
    is_last: bool
    is_flat_zero: bool


def check_jpeg(content: bytes) -> None:
    """Check that the coded pixels of a JPEG go on to its end, without a lost piece.

    Args:
        content: bytes of the whole file, or of a frame of a DICOM file.

    Raises:
        InputError: it is cut off, or has a hole.
    """
    markers = _Markers(content)
    scans = [*_scans(content, markers)]
    if not scans or not scans[-1].is_last:
        raise InputError("a JPEG without its end: cut off")
    for scan in scans:
        restarts = markers.restarts_in(scan.start, scan.end)
        numbers = [content[restart + 1] & 7 for restart in restarts]
        starts, ends = [scan.start, *(restart + 2 for restart in restarts)], [*restarts, scan.end]
        has_gap = numbers != [number % 8 for number in range(len(numbers))]
        has_gap |= content.startswith(b"\xff" * MIN_RUN, scan.end)  # which decoders take for a part of the next marker
        has_run = _has_run(content, scan.start, scan.end)  # there may be hundreds of pieces
        pieces = [piece for piece in zip(starts, ends, strict=True) if has_run and _has_run(content, *piece)]
        if len(pieces) > MAX_TESTED and scan.is_flat_zero:
            pieces = []  # a hole lies in few pieces, a flat area in many, which would take long to test
        if has_gap or any(_has_hole(content, *piece, scan.is_flat_zero) for piece in pieces):
            raise InputError("a JPEG with a hole: a piece of the file was lost and filled with other bytes")


def _has_run(content: bytes, start: int, end: int) -> bool:
    """Detect a long run of equal bytes; eight bytes at a time first, since the search takes a hundred times longer."""
    words = np.frombuffer(content, np.uint64, (end - start) // 8, start)
    return bool((words[1:] == words[:-1]).any()) and RUN.search(content, start, end) is not None


def _has_hole(content: bytes, start: int, end: int, is_flat_zero: bool) -> bool:
    """Detect a lost piece of the file, which storage has filled with equal bytes.

    A long run of these can be a flat area as well. But after a hole the decoder comes to the end of the image before or
    behind that of the data: then other last bytes do not change the image, or more bytes do.
    """
    pixels, rest = _pixels(content), content[end:]

    def changes_nothing(coded: bytes) -> bool:
        return np.array_equal(_pixels(coded + OTHER + rest), pixels)

    last_code = start + len(content[start:end].rstrip(content[end - 1 : end]))
    if end - last_code >= MIN_RUN and changes_nothing(content[:last_code]):
        end = last_code  # equal bytes behind the last code do no harm
    run = RUN.search(content, start, end)
    if run is None:
        return False
    if run[1] == b"\xff" or (run[1] == b"\0" and not is_flat_zero):
        return True
    return not changes_nothing(content[:end]) or changes_nothing(content[: end - len(OTHER)])


class _Markers:
    """Positions of the markers of a JPEG, found at once: searching for each takes ten times longer."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        data = np.frombuffer(content, np.uint8)
        last = np.flatnonzero(data[:-1] == 0xFF)  # byte before the kind
        last = last[(data[last + 1] != 0) & (data[last + 1] != 0xFF)]
        is_restart = (data[last + 1] >= RESTARTS[0]) & (data[last + 1] <= RESTARTS[1])
        self.restarts: list[int] = last[is_restart].tolist()
        self.others: list[int] = last[~is_restart].tolist()

    def restarts_in(self, start: int, end: int) -> list[int]:
        """Positions of the restarts in a part of the file."""
        return self.restarts[bisect_left(self.restarts, start) : bisect_left(self.restarts, end - 1)]

    def next_after(self, position: int) -> tuple[int, int] | None:
        """Positions of the next marker, where its filling begins, and of its kind; restarts count as none."""
        found = bisect_left(self.others, position)
        if found == len(self.others):
            return None
        last = self.others[found]
        return position + len(self.content[position:last].rstrip(b"\xff")), last + 1


def _scans(content: bytes, markers: _Markers) -> Iterator[Scan]:
    """Find the coded pixels of an image."""
    position, frame = 2, 0  # after the start of the image
    firsts: dict[int, int] = {}  # symbol that the code of zeros alone stands for, by class and number of the table
    while match := markers.next_after(position):
        kind, position = content[match[1]], match[1] + 1
        if kind == END_OF_IMAGE:
            return
        if kind == TEMPORARY:
            continue
        segment = content[position + 2 : position + int.from_bytes(content[position : position + 2])]
        position += 2 + len(segment)
        if kind == TABLES:
            firsts.update(_first_symbols(segment))
        elif kind in BASELINE or kind == PROGRESSIVE:
            frame = kind
        elif kind == START_OF_SCAN:
            following = markers.next_after(position)
            end = following[0] if following else len(content)
            is_last = following is not None and content[following[1]] == END_OF_IMAGE
            yield Scan(position, end, is_last, _is_flat_zero(segment, firsts, frame))
            position = end


def _first_symbols(segment: bytes) -> Iterator[tuple[int, int]]:
    """Read the first symbol of each Huffman table; its code is the shortest, and all zeros."""
    while len(segment) > 17:
        yield segment[0], segment[17]
        segment = segment[17 + sum(segment[1:17]) :]


def _is_flat_zero(header: bytes, firsts: dict[int, int], frame: int) -> bool:
    """Detect a scan in which a flat area may be coded by zeros."""
    count = header[0]
    first, refines = header[1 + 2 * count], header[3 + 2 * count] >> 4 > 0
    tables = header[2 : 1 + 2 * count : 2]
    are_dc = all(firsts.get(table >> 4) == 0 for table in tables)
    ac = [firsts.get(0x10 | table & 15, 0) for table in tables]
    if frame == PROGRESSIVE:
        return refines or (are_dc if first == 0 else all(symbol & 15 == 0 and symbol < 0xF0 for symbol in ac))
    return frame not in BASELINE or (are_dc and not any(ac))


def _pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        return np.asarray(image)
