"""Types of a sample and of a split, which all data sets share."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NORMAL, ABNORMAL = 0, 1
OWN_KIND = "train"
"""Kind of the images of DATA_PATH, to tell them from further normal images."""
Box = tuple[float, float, float, float]
"""Bounding box: left, top, right and bottom, in pixels of the file."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Selection of images from a data set; fields have the names of their options, and None means not given.

    Attributes:
        normal_class: name or index of the class that counts as normal.
        split_dir: folder of lists that assign images to splits.
        view: view of the X-ray, ``PA`` or ``AP``.
        min_age: smallest age of a patient, in years.
        part: body part.
        abnormal: folder of abnormal images.
        val_share: share of the training patients to hold out for validation if the data set has no val split.
    """

    normal_class: str | None = None
    split_dir: Path | None = None
    view: str | None = None
    min_age: int | None = None
    part: str | None = None
    abnormal: Path | None = None
    val_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its label and metadata.

    Attributes:
        path: file of the image.
        name: path inside DATA_PATH, with forward slashes and `printable`; the name that outputs show.
        label: 0 normal, 1 abnormal.
        row: row of the image in an array, if `path` holds many images.
        array: name of that array.
        patient: identifier of the patient; never written to an output.
        study: identifier of the study, shared by the images that were taken together.
        view: view in the words of the data set, for example ``PA``.
        part: body part in the words of the data set, for example ``HAND``; None where only its entry in `DATASETS` may
            tell it.
        findings: findings in the words of the data set.
        sex: sex in the words of the data set, for example ``F``.
        age: in years.
        boxes: boxes that experts marked.
        mask: image file of the same size that marks pixels with any grey level above 0.
        kind: `OWN_KIND`, or the folder or table of further normal images that it comes from.
    """

    path: Path
    name: str
    label: int
    row: int | None = None
    array: str | None = None
    patient: str | None = None
    study: str | None = None
    view: str | None = None
    part: str | None = None
    findings: tuple[str, ...] = ()
    sex: str | None = None
    age: float | None = None
    boxes: tuple[Box, ...] = ()
    mask: Path | None = None
    kind: str = OWN_KIND


@dataclass(frozen=True, slots=True)
class Skipped:
    """One image file that was left out because it cannot be read.

    Attributes:
        name: name of its `Sample`.
        reason: reason in one line.
        split: ``train``, ``val``, ``test`` or ``more_normals``.
    """

    name: str
    reason: str
    split: str


class Images(Protocol):
    """Source of the pixels of a split: the image files, or a cache.

    Attributes:
        isize: S, the side of the images in pixels.
    """

    isize: int

    def __len__(self) -> int: ...

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Read images into `out`, (len(index), S, S); several threads call this at once.

        Args:
            index: positions of the images in the split.
            out: array to fill, uint8.

        Raises:
            InputError: a file cannot be read.
        """


class JoinedImages:
    """Images of several sources, one after the other.

    Args:
        parts: sources, all of images of the same side.
    """

    def __init__(self, parts: Sequence[Images]) -> None:
        self.parts = parts
        self.isize = parts[0].isize
        self.starts = [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Read images into `out`, (len(index), S, S), each from its source."""
        for slot, i in enumerate(index):
            number = bisect_right(self.starts, i) - 1
            self.parts[number].read([i - self.starts[number]], out[slot : slot + 1])


class ChosenImages:
    """Some of the images of a source.

    Args:
        source: source of their pixels.
        chosen: positions of the images in the source.
    """

    def __init__(self, source: Images, chosen: list[int]) -> None:
        self.source = source
        self.chosen = chosen
        self.isize = source.isize

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Read images into `out`, see `Images`."""
        self.source.read([self.chosen[i] for i in index], out)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Samples of train, val or test.

    Attributes:
        samples: samples, in an order that depends only on the data set.
        normal_class: name of the class that counts as normal; empty if there are no classes.
        classes: names of all classes.
        skipped: files that were left out.
        doubts: warnings about its classes or files, a line each.
        images: source of the pixels, set once the files have been scanned.
    """

    samples: list[Sample] = field(repr=False)
    normal_class: str
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...] = field(default=(), repr=False)
    doubts: tuple[str, ...] = field(default=(), repr=False, compare=False)
    images: Images | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        num_abnormal = len(self.samples) - self.num_normal
        return f"{self.num_normal:,} normal images ({self.normal_class}) and {num_abnormal:,} abnormal ones"

    @property
    def labels(self) -> list[int]:
        """Label of each sample, 0 normal, 1 abnormal."""
        return [sample.label for sample in self.samples]

    @property
    def fingerprint(self) -> str:
        """Number of images and a digest of their names and labels, to distinguish this split from others."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(f"{sample.label} {sample.name}\n".encode(errors="surrogateescape"))
        return f"{len(self.samples)} images (digest {digest.hexdigest()[:12]})"

    @property
    def num_normal(self) -> int:
        """Number of normal samples."""
        return self.labels.count(NORMAL)

    @property
    def kinds(self) -> dict[str, int]:
        """Number of normal samples of each kind, in the order of the samples."""
        return dict(Counter(sample.kind for sample in self.samples if sample.label == NORMAL))

    @property
    def has_both_classes(self) -> bool:
        """True if there are normal and abnormal samples, so that an AUC is defined."""
        return 0 < self.num_normal < len(self.samples)

    def only_normal(self) -> Split:
        """Return the split without its abnormal samples and without `images`."""
        normal = [sample for sample in self.samples if sample.label == NORMAL]
        return replace(self, samples=normal, images=None)

    def joined_with(self, others: Sequence[Split]) -> Split:
        """Return the split with the samples, files left out, and pixels of others after its own."""
        if not others:
            return self
        parts = [self, *others]
        return replace(
            self,
            samples=[sample for part in parts for sample in part.samples],
            skipped=tuple(file for part in parts for file in part.skipped),
            images=JoinedImages([part.images for part in parts if part.images is not None]),
        )

    def by_kind(self) -> dict[str, Split]:
        """Return the samples of each kind as a split without `images`; `OWN_KIND` comes first, even without any."""
        kinds = dict.fromkeys([OWN_KIND, *(sample.kind for sample in self.samples)])
        return {
            kind: replace(self, samples=[sample for sample in self.samples if sample.kind == kind], images=None)
            for kind in kinds
        }

    def at(self, index: list[int]) -> Split:
        """Return the samples at these positions, with their pixels where the split has been scanned."""
        images = None if self.images is None else ChosenImages(self.images, index)
        return replace(self, samples=[self.samples[i] for i in index], images=images)


# (DATA_PATH, "train" | "val" | "test", selection) -> the split, or None if the data set has no val
SplitReader = Callable[[Path, str, Selection], Split | None]
