"""Inspect a data set before training: count, measure and compare its splits."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salad.checks.baselines import Baselines, measure_baselines
from salad.checks.films import Unread, look_at
from salad.checks.labels import find_contradictions, find_twofold
from salad.checks.leaks import MAX_HASHED_BYTES, Leak, Place, compare_splits, doubt_patients
from salad.checks.siblings import find_mirrors
from salad.config import OPTIONS
from salad.datasets import read_split
from salad.errors import InputError, printable
from salad.evaluation.few import few_for_auc, few_to_calibrate, few_to_train
from salad.images.decoder import Decoder
from salad.images.headers import Header, draw_places, read_headers
from salad.samples import NORMAL, Sample, Split

if TYPE_CHECKING:
    from salad.config import Config

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """Counts of one split.

    Attributes:
        num_normal: number of images labelled normal.
        num_abnormal: number of images labelled abnormal.
        num_left_out: number of abnormal images that are not trained on.
        classes: number of images by class name.
        normal_class: name of the normal class.
        num_patients: number of different patients.
        num_without_patient: number of images whose patient is unknown.
        views: number of images by view, as far as known.
        sizes: number of images by size, ``width x height``.
        modes: number of images by format and mode.
        num_headers: number of files opened for `sizes` and `modes`: all, or those of a sample.
        num_unread: number of those files without a readable header.
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
        """Number of images, normal and abnormal."""
        return self.num_normal + self.num_abnormal


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Results of inspecting a data set.

    Attributes:
        splits: counts by name of the split.
        absent: reason why a split could not be read, by name.
        leaks: images and patients that two splits share; images that are not trained on do not count.
        copies: pairs of names: an image, and the image of the same split that it is a copy of.
        num_uncompared: number of images not compared by content because of the limit on bytes.
        few: lines of text about numbers that will rest on few images.
        doubts: lines of text about doubtful classes and labels.
        baselines: AUCs on val without a model; None if not measured.
        unread: images that cannot be read, by name of the split; empty if they were not looked for.
    """

    splits: dict[str, SplitFacts]
    absent: dict[str, str]
    leaks: tuple[Leak, ...]
    copies: tuple[tuple[str, str], ...]
    num_uncompared: int
    few: tuple[str, ...]
    doubts: tuple[str, ...]
    baselines: Baselines | None = None
    unread: dict[str, Unread] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON; patients are counted, never named."""
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
    """List all splits that can be read.

    Args:
        config: configuration of the run.

    Returns:
        The splits by name, and for each other split the reason why it cannot be read.

    Raises:
        InputError: no split can be read.
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
    """Inspect all splits of a data set, test included, and measure baselines on val.

    Args:
        config: configuration of the run.

    Returns:
        The results.

    Raises:
        InputError: no split can be read.
    """
    splits, absent = read_splits(config)
    decoder = Decoder(isize=config.images.size, resize=config.images.resize, trim=config.images.trim)
    num_threads = config.data.n_jobs_dataloader
    inspection = inspect_splits(
        splits, train_on=config.data.train_on, num_threads=num_threads, max_bytes=None, absent=absent
    )
    seen = {name: look_at(name, split, decoder=decoder, num_threads=num_threads) for name, split in splits.items()}
    doubts = (*inspection.doubts, *(doubt for doubt, _ in seen.values() if doubt))
    unread = {name: unread for name, (_, unread) in seen.items()}
    inspection = dataclasses.replace(inspection, doubts=doubts, unread=unread)
    if val := splits.get("val"):
        baselines = measure_baselines(val, decoder=decoder, num_threads=num_threads)
        inspection = dataclasses.replace(inspection, baselines=baselines)
    return inspection


def inspect_splits(
    splits: dict[str, Split],
    *,
    train_on: str,
    num_threads: int,
    max_bytes: int | None = MAX_HASHED_BYTES,
    absent: dict[str, str] | None = None,
) -> Inspection:
    """Count, measure and compare splits.

    Args:
        splits: splits to inspect, by name, in the order of `SPLITS`.
        train_on: ``normal``, which excludes the abnormal images of train, or ``all``.
        num_threads: number of threads that read files.
        max_bytes: limit on the bytes read to compare files by content; None for no limit.
        absent: reason why a split could not be read, by name.

    Returns:
        The results, without baselines.
    """
    compared = compare_splits(splits, train_on=train_on, num_threads=num_threads, max_bytes=max_bytes)
    left_out = {"train"} if train_on == "normal" else set()
    opened = {name: [split.samples[i] for i in draw_places(len(split.samples))] for name, split in splits.items()}
    headers = {name: read_headers(samples, num_threads=num_threads) for name, samples in opened.items()}
    return Inspection(
        splits={
            name: count_images(split, only_normal=name in left_out, opened=headers[name])
            for name, split in splits.items()
        },
        absent=absent or {},
        leaks=compared.leaks,
        copies=tuple(_copies(compared.groups)),
        num_uncompared=compared.num_unread,
        few=tuple(line for name, split in splits.items() for line in _few(name, split)),
        doubts=(
            *(doubt for split in splits.values() for doubt in split.doubts),
            *find_twofold([[sample for _, sample in group] for group in compared.groups]),
            *find_contradictions([sample for split in splits.values() for sample in split.samples]),
            *doubt_patients(splits, train_on=train_on),
            *(line for name in splits for line in find_mirrors(opened[name], headers[name])),
        ),
    )


def _few(name: str, split: Split) -> tuple[str, ...]:
    """Warn of numbers that will rest on few images of a split."""
    num_normal = split.num_normal
    if name == "train":
        return few_to_train(num_normal)
    of_auc = few_for_auc(name, num_normal=num_normal, num_abnormal=len(split.samples) - num_normal)
    calibrates = name == "val" and num_normal
    return (*of_auc, *(few_to_calibrate(num_normal, least=OPTIONS["min_normals"].default) if calibrates else ()))


def _copies(groups: Iterable[list[Place]]) -> list[tuple[str, str]]:
    copies = []
    for group in groups:
        first: dict[str, Sample] = {}
        for name, sample in group:
            if name in first:
                copies.append((sample.name, first[name].name))
            first.setdefault(name, sample)
    return copies


def count_images(split: Split, *, only_normal: bool = False, opened: Sequence[Header | None] = ()) -> SplitFacts:
    """Count the images of a split.

    Args:
        split: to count.
        only_normal: True if its abnormal images are left out of the training.
        opened: headers of its files, or of a sample of them; None for one that cannot be read.
    """
    samples = split.samples
    headers = [header for header in opened if header]
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
        sizes=_ordered(f"{header.width} x {header.height}" for header in headers),
        modes=_ordered(header.mode for header in headers),
        num_headers=len(opened),
        num_unread=len(opened) - len(headers),
    )


def _class_of(sample: Sample, split: Split, names: frozenset[str]) -> str:
    """Return the class of a sample: its class folder if there is one, else the name of its label."""
    folder = sample.name.split("/")[1:2] if sample.row is None else []
    if folder and folder[0] in names:
        return folder[0]
    return printable(split.normal_class) if sample.label == NORMAL else "abnormal"


def _ordered(values: Iterable[str]) -> dict[str, int]:
    """Count each value, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
