"""Look at the films of a split: those that cannot be read, and those to doubt."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from salad.errors import InputError, printable
from salad.images.decoder import Decoder
from salad.images.doubts import doubt_line, find_doubt
from salad.images.headers import draw_places
from salad.images.names import hint
from salad.images.threads import map_in_chunks
from salad.samples import Sample, Split

NUM_KEPT, NUM_NAMED = 10, 2  # unread images to keep, and to name in a line


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Images of a split that cannot be read.

    Attributes:
        num_images: number of them.
        num_decoded: number of images that were decoded; of the others only the files were looked for.
        first: name and reason of the first of them.
    """

    num_images: int
    num_decoded: int
    first: tuple[tuple[str, str], ...]

    def line(self, split: str) -> str:
        """Describe them in a line."""
        named = ", ".join(f"{name} ({reason})" for name, reason in self.first[:NUM_NAMED])
        are = "image" if self.num_images == 1 else "images"
        return f"{self.num_images:,} {are} of {split} cannot be read, the first: {named}"


def look_at(name: str, split: Split, *, decoder: Decoder, num_threads: int) -> tuple[str, Unread]:
    """Decode the films of a split, or a sample of them, and look for the files of the others.

    Args:
        name: ``train``, ``val`` or ``test``.
        split: split as listed.
        decoder: decoder of the images.
        num_threads: number of threads that decode.

    Returns:
        A line about films to doubt, see `find_doubt`, empty if there are none; and the images that cannot be read.
    """

    def look(sample: Sample) -> tuple[str | None, str | None]:
        try:
            return find_doubt(decoder.read(sample)), None
        except InputError as error:
            return None, str(error).removeprefix(f"{printable(sample.path)}: ")

    drawn = draw_places(len(split.samples))
    others = sorted(set(range(len(split.samples))).difference(drawn))
    seen = map_in_chunks(lambda i: look(split.samples[i]), drawn, num_threads=num_threads, size=8)
    lost = map_in_chunks(lambda i: _reason_if_lost(split.samples[i]), others, num_threads=num_threads)
    doubted = [(split.samples[i].name, doubt) for i, (doubt, _) in zip(drawn, seen, strict=True) if doubt]
    reasons = dict(zip((*drawn, *others), (*(reason for _, reason in seen), *lost), strict=True))
    unread = [(split.samples[i].name, reason) for i, reason in sorted(reasons.items()) if reason]
    line = doubt_line(name, doubted, num_images=len(drawn)) if doubted else ""
    return line, Unread(num_images=len(unread), num_decoded=len(drawn), first=tuple(unread[:NUM_KEPT]))


def _reason_if_lost(sample: Sample) -> str | None:
    """Tell if the file of a sample is missing or empty."""
    try:
        status = os.stat(sample.path)  # noqa: PTH116
    except OSError as error:
        return f"no such file{hint(sample.path)}" if isinstance(error, FileNotFoundError) else error.strerror
    if not stat.S_ISREG(status.st_mode):
        return "a folder, a pipe or a device, not a file"
    return None if status.st_size else "an empty file"


def refuse_unread(unread: Mapping[str, Unread]) -> None:
    """Refuse images that cannot be read, for --strict.

    Args:
        unread: unread images by split.

    Raises:
        InputError: there are some.
    """
    if lines := [found.line(name) for name, found in unread.items() if found.num_images]:
        raise InputError(f"--strict: {'; '.join(lines)}; repair or remove them, or leave --strict out")
