"""What a data set holds: counted, measured, and compared across its splits before anything is trained."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salad.checks.baselines import Baselines, measure_baselines
from salad.checks.labels import find_contradictions, find_twofold
from salad.checks.leaks import MAX_HASHED_BYTES, Leak, Place, compare_splits
from salad.datasets import read_split
from salad.errors import InputError, printable
from salad.images.decoder import Decoder
from salad.images.headers import Header, draw_places, read_headers
from salad.samples import NORMAL, Sample, Split

if TYPE_CHECKING:
    from salad.config import Config

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """One split in numbers.

    Attributes:
        num_normal: images labelled normal.
        num_abnormal: images labelled abnormal.
        num_left_out: of these, not trained on.
        classes: images of each class, by its name, where the data set has names for them.
        normal_class: the name of the class that counts as normal.
        num_patients: different ones.
        num_without_patient: images of which the data do not tell it.
        views: images of each view, where it is known.
        sizes: images of each size, ``width x height``.
        modes: images of each format and mode.
        num_headers: images whose files were opened for these two; all, or those of a sample.
        num_unread: of these, files that gave none.
    """

    num_normal: int
    num_abnormal: int
    num_left_out: int
    classes: dict[str, int]
    normal_class: str
    num_patients: int
    num_without_patient: int
    views: dict[str, int]
    sizes: dict[str, int]
    modes: dict[str, int]
    num_headers: int
    num_unread: int

    @property
    def num_images(self) -> int:
        """Normal and abnormal ones."""
        return self.num_normal + self.num_abnormal


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A data set in numbers.

    Attributes:
        splits: those that were looked at.
        absent: why others could not be read, by name.
        leaks: what two splits share; of train, only the images that are trained on count.
        copies: names of images that are a copy of another one in the same split, with that one.
        num_uncompared: images whose content was not compared, because the bound on reading was reached.
        doubts: what looks wrong with classes and labels, a line each.
        baselines: AUCs on val of what needs no model; None where they have not been measured.
    """

    splits: dict[str, SplitFacts]
    absent: dict[str, str]
    leaks: tuple[Leak, ...]
    copies: tuple[tuple[str, str], ...]
    num_uncompared: int
    doubts: tuple[str, ...]
    baselines: Baselines | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON; patients are counted, never named."""
        splits = {
            name: {"num_images": split.num_images, **dataclasses.asdict(split)} for name, split in self.splits.items()
        }
        return {
            **dataclasses.asdict(self),
            "splits": splits,
            "num_copies": len(self.copies),
            "baselines": self.baselines and self.baselines.as_json(),
        }


def read_splits(config: Config) -> tuple[dict[str, Split], dict[str, str]]:
    """All splits that can be listed, by name, and why the others cannot.

    Raises:
        InputError: none can be.
    """
    splits: dict[str, Split] = {}
    absent: dict[str, str] = {}
    selection = config.data.selection
    for name in SPLITS:
        try:
            split = read_split(config.data.dataset_name, config.data.data_path, name, selection=selection)
        except InputError as error:
            absent[name] = str(error)
            continue
        if split is None:
            absent[name] = "none"
        else:
            splits[name] = split
            selection = dataclasses.replace(selection, normal_class=split.normal_class)
    if not splits:
        raise InputError(absent["train"])
    return splits, absent


def inspect_data(config: Config) -> Inspection:
    """Look at all of a data set, test/ too; only the baselines are val's alone.

    Raises:
        InputError: no split can be listed.
    """
    splits, absent = read_splits(config)
    decoder = Decoder(isize=config.images.size, resize=config.images.resize, trim=config.images.trim)
    num_threads = config.data.n_jobs_dataloader
    found = inspect_splits(
        splits, train_on=config.data.train_on, num_threads=num_threads, max_bytes=None, absent=absent
    )
    if val := splits.get("val"):
        baselines = measure_baselines(val, decoder=decoder, num_threads=num_threads)
        found = dataclasses.replace(found, baselines=baselines)
    return found


def inspect_splits(
    splits: dict[str, Split],
    *,
    train_on: str,
    num_threads: int,
    max_bytes: int | None = MAX_HASHED_BYTES,
    absent: dict[str, str] | None = None,
) -> Inspection:
    """Count, measure and compare.

    Args:
        splits: by name, in the order of `SPLITS`; only these are looked at.
        train_on: ``normal``, which leaves the abnormal images of train out, or ``all``.
        num_threads: threads that read files.
        max_bytes: how much may be read of files that look the same; None for all.
        absent: why other splits are not there.
    """
    compared = compare_splits(splits, train_on=train_on, num_threads=num_threads, max_bytes=max_bytes)
    left_out = {"train"} if train_on == "normal" else set()
    return Inspection(
        splits={name: _count(split, name in left_out, num_threads) for name, split in splits.items()},
        absent=absent or {},
        leaks=compared.leaks,
        copies=tuple(_copies(compared.groups)),
        num_uncompared=compared.num_unread,
        doubts=(
            *(doubt for split in splits.values() for doubt in split.doubts),
            *find_twofold([[sample for _, sample in group] for group in compared.groups]),
            *find_contradictions([sample for split in splits.values() for sample in split.samples]),
        ),
    )


def _copies(groups: Iterable[list[Place]]) -> list[tuple[str, str]]:
    copies = []
    for group in groups:
        first: dict[str, Sample] = {}
        for name, sample in group:
            if name in first:
                copies.append((sample.name, first[name].name))
            first.setdefault(name, sample)
    return copies


def _count(split: Split, only_normal: bool, num_threads: int) -> SplitFacts:
    samples = split.samples
    opened = [samples[i] for i in draw_places(len(samples))]
    headers: list[Header] = [one for one in read_headers(opened, num_threads=num_threads) if one]
    names = frozenset(map(printable, split.classes))
    patients = Counter(sample.patient for sample in samples)
    num_abnormal = len(samples) - split.num_normal
    return SplitFacts(
        num_normal=split.num_normal,
        num_abnormal=num_abnormal,
        num_left_out=num_abnormal if only_normal else 0,
        classes=_ordered(_class_of(sample, split, names) for sample in samples),
        normal_class=printable(split.normal_class),
        num_patients=len(patients.keys() - {None}),
        num_without_patient=patients[None],
        views=_ordered(printable(sample.view) for sample in samples if sample.view),
        sizes=_ordered(f"{one.width} x {one.height}" for one in headers),
        modes=_ordered(one.mode for one in headers),
        num_headers=len(opened),
        num_unread=len(opened) - len(headers),
    )


def _class_of(sample: Sample, split: Split, names: frozenset[str]) -> str:
    """The folder of its class, where a data set has such folders; else what its label says."""
    folder = sample.name.split("/")[1:2] if sample.row is None else []
    if folder and folder[0] in names:
        return folder[0]
    return printable(split.normal_class) if sample.label == NORMAL else "abnormal"


def _ordered(values: Iterable[str]) -> dict[str, int]:
    """How often each value is there, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda one: (-one[1], one[0])))
