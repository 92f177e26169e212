"""From a sample to its pixels, the same way in training and in scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salad.images.npz import read_row
from salad.images.read import GreyImage, read_image
from salad.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How images are read.

    Attributes:
        isize: S, in pixels.
        resize: ``squash``, ``pad`` or ``crop``.
        trim: whether uniform borders are cut off before that.
    """

    isize: int
    resize: str
    trim: bool = False

    def read(self, sample: Sample) -> GreyImage:
        """The pixels of a sample, (S, S).

        Raises:
            InputError: its file cannot be read.
        """
        if sample.row is not None:
            return read_row(sample, isize=self.isize, resize=self.resize, trim=self.trim)
        return read_image(sample.path, isize=self.isize, resize=self.resize, trim=self.trim)

    @property
    def key(self) -> str:
        """A name for pixels that are read this way."""
        return f"{self.isize}-{self.resize}" + ("-trim" if self.trim else "")


class DecodedImages:
    """The files of some samples, decoded whenever they are asked for.

    Args:
        samples: what to read.
        decoder: reads them.
    """

    def __init__(self, samples: list[Sample], *, decoder: Decoder) -> None:
        self.samples = samples
        self.isize = decoder.isize
        self.decoder = decoder

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Decode some files."""
        for place, i in enumerate(index):
            out[place] = self.decoder.read(self.samples[i])
