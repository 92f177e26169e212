"""What a split shares with another and must not: images, and patients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from salad.checks.duplicates import find_duplicates
from salad.errors import InputError
from salad.samples import NORMAL, Sample, Split

MAX_HASHED_BYTES = 2**30  # read by a run, of files that look the same; `salad inspect` has no bound
NUM_SHOWN, NUM_KEPT = 2, 10  # pairs of images that stand for all, in text and in JSON

Place = tuple[str, Sample]  # the name of a split, and one of its samples


@dataclass(frozen=True, kw_only=True)
class Leak:
    """What two splits share.

    Attributes:
        kind: ``content`` (the same images) or ``patient``.
        first: the split that is trained on, or stands nearer to training.
        second: the split whose figures the leak corrupts.
        num_shared: different contents, or patients, that are in both.
        num_images: images of the second split that are concerned.
        pairs: names of some of these, each with one of the first split.
    """

    kind: str
    first: str
    second: str
    num_shared: int
    num_images: int
    pairs: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{second} and {first}" for second, first in self.pairs[:NUM_SHOWN])
        if self.kind == "content":
            return f"images of {self.second} that are in {self.first}, too: {self.num_images:,}, the first: {shown}"
        count = f"{self.num_images:,}, of {self.num_shared:,} patients"
        return f"images of {self.second} whose patients are in {self.first}, too: {count}, the first: {shown}"

    def as_json(self) -> dict[str, Any]:
        """Plain values; patients are never named."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How the images of some splits compare.

    Attributes:
        leaks: what two splits share.
        groups: images of one content, two or more in each group.
        num_unread: images whose content was not compared, because the bound on reading was reached.
    """

    leaks: tuple[Leak, ...]
    groups: list[list[Place]]
    num_unread: int


def compare_splits(
    splits: dict[str, Split],
    *,
    train_on: str,
    num_threads: int,
    max_bytes: int | None = MAX_HASHED_BYTES,
) -> Comparison:
    """Look for the same images and the same patients.

    Args:
        splits: by name, in the order train, val, test; only these are looked at.
        train_on: ``normal``, with which the abnormal images of train are part of no leak, or ``all``.
        num_threads: threads that read files.
        max_bytes: how much may be read of files that look the same; None for all.
    """
    places = [(name, sample) for name, split in splits.items() for sample in split.samples]
    samples = [sample for _, sample in places]
    found = find_duplicates(samples, num_threads=num_threads, max_bytes=max_bytes)
    groups = [[places[i] for i in group] for group in found.groups]
    contents = [(number, place) for number, group in enumerate(groups) for place in group]
    patients = [(sample.patient, (name, sample)) for name, sample in places if sample.patient]
    order = tuple(splits)
    leaks = [
        *_find_leaks("content", contents, order, train_on=train_on),
        *_find_leaks("patient", patients, order, train_on=train_on),
    ]
    return Comparison(leaks=tuple(leaks), groups=groups, num_unread=found.num_unread)


def _find_leaks(
    kind: str, places: Iterable[tuple[Hashable, Place]], order: tuple[str, ...], *, train_on: str
) -> Iterator[Leak]:
    """The leaks between every two splits, from images with what must not be shared, a patient say."""
    shared: dict[Hashable, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for key, (split, sample) in places:
        if split != "train" or train_on == "all" or sample.label == NORMAL:
            shared[key][split].append(sample)
    for first, second in combinations(order, 2):
        both = [parts for parts in shared.values() if first in parts and second in parts]
        pairs = [(sample.name, parts[first][0].name) for parts in both for sample in parts[second]]
        if pairs:
            yield Leak(
                kind=kind,
                first=first,
                second=second,
                num_shared=len(both),
                num_images=len(pairs),
                pairs=tuple(sorted(pairs)[:NUM_KEPT]),
            )


def refuse_leaks(leaks: Iterable[Leak]) -> None:
    """Raise `InputError` where there is a leak, as --strict asks for."""
    if found := list(leaks):
        more = f" (and {len(found) - 1} more kinds of leaks)" if len(found) > 1 else ""
        raise InputError(f"--strict: {found[0]}{more}; take them out of one split, or leave --strict out")
