"""Decode samples to pixels, in the same way for training and scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salad.images.npz import read_row
from salad.images.read import GreyImage, read_image
from salad.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Settings that turn an image file into a square grey image.

    Attributes:
        isize: S, the side of the image in pixels.
        resize: ``squash``, ``pad`` or ``crop``; see `read_image`.
        trim: whether uniform borders are cut off before the image is resized.
    """

    isize: int
    resize: str
    trim: bool = False

    def read(self, sample: Sample) -> GreyImage:
        """Decode a sample to its pixels, (S, S), uint8.

        Raises:
            InputError: the file cannot be read.
        """
        if sample.row is not None:
            return read_row(sample, isize=self.isize, resize=self.resize, trim=self.trim)
        return read_image(sample.path, isize=self.isize, resize=self.resize, trim=self.trim)

    @property
    def key(self) -> str:
        """Name of these settings, for file names."""
        return f"{self.isize}-{self.resize}" + ("-trim" if self.trim else "")


class DecodedImages:
    """Images that are decoded from their files at every read.

    Args:
        samples: images to read.
        decoder: decoder of the images.
    """

    def __init__(self, samples: list[Sample], *, decoder: Decoder) -> None:
        self.samples = samples
        self.isize = decoder.isize
        self.decoder = decoder

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Decode images into `out`, (len(index), S, S).

        Args:
            index: positions of the images in `samples`.
            out: array to fill, uint8.

        Raises:
            InputError: a file cannot be read.
        """
        for slot, i in enumerate(index):
            out[slot] = self.decoder.read(self.samples[i])
