"""The one type of a sample, and of a split of them, behind every data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NORMAL, ABNORMAL = 0, 1
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of the file."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to take of a data set; the names are those of the options, and None stands where none was given.

    Attributes:
        normal_class: name or index of the class that counts as normal.
        split_dir: folder of lists that say which image belongs to which split.
        view: ``PA`` or ``AP``.
        min_age: of the patient, in years.
        part: of the body.
        val_share: of the training patients, to be held out where the data set has no val.
    """

    normal_class: str | None = None
    split_dir: Path | None = None
    view: str | None = None
    min_age: int | None = None
    part: str | None = None
    val_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what is known of it.

    Attributes:
        path: where its file is.
        name: its path inside DATA_PATH, with forward slashes, `printable`; what outputs show.
        label: 0 normal, 1 abnormal.
        row: its place in an array, where `path` holds many images.
        array: the name of that array.
        patient: tells whose image it is; never written to an output.
        study: tells which images were taken together.
        view: as the data set says it, ``PA`` say.
        findings: what the data set says is to be seen.
        sex: as the data set says it, ``F`` say.
        age: in years.
        boxes: what experts marked in it.
        mask: an image file of its size that marks with any grey above 0.
    """

    path: Path
    name: str
    label: int
    row: int | None = None
    array: str | None = None
    patient: str | None = None
    study: str | None = None
    view: str | None = None
    findings: tuple[str, ...] = ()
    sex: str | None = None
    age: float | None = None
    boxes: tuple[Box, ...] = ()
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """One image file that was left out because it cannot be read.

    Attributes:
        name: as of a `Sample`.
        reason: in one line.
        split: ``train``, ``val`` or ``test``.
    """

    name: str
    reason: str
    split: str


class Images(Protocol):
    """Where pixels come from: the files themselves, or a cache of what they hold."""

    isize: int

    def __len__(self) -> int: ...

    def read(self, index: list[int], out: NDArray[np.uint8]) -> None:
        """Read some images into `out`, (len(index), S, S); called from several threads at once.

        Raises:
            InputError: a file cannot be read.
        """


@dataclass(frozen=True, kw_only=True)
class Split:
    """The samples of train, val or test.

    Attributes:
        samples: in an order that only the data set decides.
        normal_class: the name of the class that counts as normal; empty where there are no classes.
        classes: the names of all its classes.
        skipped: files that were left out.
        doubts: what looks wrong with its classes or files, a line each.
        images: their pixels, once they have been looked at.
    """

    samples: list[Sample] = field(repr=False)
    normal_class: str
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...] = field(default=(), repr=False)
    doubts: tuple[str, ...] = field(default=(), repr=False, compare=False)
    images: Images | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        num_abnormal = len(self.samples) - self.num_normal
        return f"{self.num_normal} normal images ({self.normal_class}) and {num_abnormal} abnormal ones"

    @property
    def labels(self) -> list[int]:
        """One label a sample, 0 normal, 1 abnormal."""
        return [sample.label for sample in self.samples]

    @property
    def fingerprint(self) -> str:
        """Tells this split from others: the number of images and a digest of their names and labels."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(f"{sample.label} {sample.name}\n".encode(errors="surrogateescape"))
        return f"{len(self.samples)} images (digest {digest.hexdigest()[:12]})"

    @property
    def num_normal(self) -> int:
        """How many samples are normal."""
        return self.labels.count(NORMAL)

    @property
    def has_both_classes(self) -> bool:
        """Whether an AUC is defined."""
        return 0 < self.num_normal < len(self.samples)

    def only_normal(self) -> Split:
        """The same split without its abnormal samples."""
        normal = [sample for sample in self.samples if sample.label == NORMAL]
        return replace(self, samples=normal, images=None)


# (DATA_PATH, "train" | "val" | "test", what to take) -> the split, or None where there is no val
SplitReader = Callable[[Path, str, Selection], Split | None]
