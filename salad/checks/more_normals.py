"""Join further normal images to the training images: without copies, and without images of val/."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

from salad.checks.labels import find_contradictions
from salad.checks.leaks import Leak, Place, compare_splits
from salad.config.data import DataOptions
from salad.datasets.more_normals import MORE, read_more_normals
from salad.samples import NORMAL, Sample, Split


@dataclass(frozen=True, kw_only=True)
class MoreNormals:
    """Further normal images that join the training images.

    Attributes:
        samples: images to train on, those of a kind together.
        leaks: images and patients that they share with val/; the images are left out of `samples`.
        num_left_out: number of images left out, by reason.
        doubts: warnings about their findings and file names, a line each.
    """

    samples: list[Sample]
    leaks: tuple[Leak, ...] = ()
    num_left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def __str__(self) -> str:
        kinds = Counter(sample.kind for sample in self.samples)
        counts = ", ".join(f"{number:,} of {kind}" for kind, number in kinds.items()) or "none"
        left_out = ", ".join(f"{number:,} {reason}" for reason, number in self.num_left_out.items())
        return counts + (f"; left out: {left_out}" if left_out else "")


def find_more_normals(data: DataOptions, *, train: Split, val: Split | None) -> MoreNormals:
    """List the images of --more_normals that join the training images of DATA_PATH.

    Of identical files one is kept: that of DATA_PATH, else the first. An image of val/ thus never is in the memory,
    and val/ stays whole, because standards and threshold rest on it alone.

    Args:
        data: options of the data set.
        train: images of train/, those that are not trained on among them.
        val: images of val/, or None.

    Raises:
        InputError: a folder or table of --more_normals cannot be used, see `read_more_normals`.
    """
    if not data.more_normals:
        return MoreNormals(samples=[])
    more = Split(samples=read_more_normals(data.more_normals), normal_class=train.normal_class, classes=())
    splits = {"train": train, MORE: more, **({"val": val} if val else {})}
    compared = compare_splits(splits, train_on="all", num_threads=data.n_jobs_dataloader, max_bytes=None)
    left_out = {sample: reason for group in compared.groups for sample, reason in _left_out_of(group).items()}
    return MoreNormals(
        samples=[sample for sample in more.samples if sample not in left_out],
        leaks=tuple(leak for leak in compared.leaks if (leak.first, leak.second) == (MORE, "val")),
        num_left_out=dict(Counter(left_out.values())),
        doubts=tuple(find_contradictions(more.samples)),
    )


def _left_out_of(group: list[Place]) -> dict[Sample, str]:
    """Choose the further images of a group of identical ones to leave out, each with the reason."""
    more = [sample for split, sample in group if split == MORE]
    if any(split == "val" for split, _ in group):
        return dict.fromkeys(more, "that are in val/, too")
    if any(split == "train" and sample.label != NORMAL for split, sample in group):
        return dict.fromkeys(more, "that are abnormal in train/")
    if any(split == "train" for split, _ in group):
        return dict.fromkeys(more, "that are in train/, too")
    return dict.fromkeys(more[1:], "that are copies of others")
