"""Find leaks: images and patients that two splits share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from salad.checks.duplicates import find_duplicates
from salad.datasets.cells import loose_key
from salad.errors import InputError
from salad.samples import NORMAL, Sample, Split

MAX_HASHED_BYTES = 2**30  # limit of a run on reading similar files; `salad inspect` has no limit
NUM_SHOWN, NUM_KEPT = 2, 10  # number of example pairs, in text and in JSON

Place = tuple[str, Sample]  # name of a split, and one of its samples


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Leak between two splits.

    Attributes:
        kind: ``content`` (identical images) or ``patient``.
        first: name of the split closer to training.
        second: name of the split whose results the leak biases.
        num_shared: number of different images, or patients, in both splits.
        num_images: number of images of the second split in the leak.
        pairs: example pairs of names, an image of the second split and one of the first split.
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
        """Return plain values for JSON; patients are never named."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Leaks and duplicates among splits.

    Attributes:
        leaks: leaks between every two splits.
        groups: images of identical content, two or more per group.
        num_unread: number of images not compared by content because of the limit on bytes.
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
    """Find images and patients that several splits share.

    Args:
        splits: splits to compare, by name, in the order train, val, test.
        train_on: ``normal``, which ignores the abnormal images of train, or ``all``.
        num_threads: number of threads that read files.
        max_bytes: limit on the bytes read to compare files by content; None for no limit.

    Returns:
        Leaks between every two splits, and groups of identical images within and between splits.
    """
    members = [(name, sample) for name, split in splits.items() for sample in split.samples]
    samples = [sample for _, sample in members]
    duplicates = find_duplicates(samples, num_threads=num_threads, max_bytes=max_bytes)
    groups = [[members[i] for i in group] for group in duplicates.groups]
    contents = [(number, member) for number, group in enumerate(groups) for member in group]
    patients = [(sample.patient, (name, sample)) for name, sample in members if sample.patient]
    order = tuple(splits)
    leaks = [
        *_find_leaks("content", contents, order, train_on=train_on),
        *_find_leaks("patient", patients, order, train_on=train_on),
    ]
    return Comparison(leaks=tuple(leaks), groups=groups, num_unread=duplicates.num_unread)


def _find_leaks(
    kind: str, members: Iterable[tuple[Hashable, Place]], order: tuple[str, ...], *, train_on: str
) -> Iterator[Leak]:
    """Yield the leaks between every two splits; each image comes with its key, which splits must not share."""
    shared: dict[Hashable, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for key, (split, sample) in members:
        if split != "train" or train_on == "all" or sample.label == NORMAL:
            shared[key][split].append(sample)
    for first, second in combinations(order, 2):
        both = [by_split for by_split in shared.values() if first in by_split and second in by_split]
        pairs = [(sample.name, by_split[first][0].name) for by_split in both for sample in by_split[second]]
        if pairs:
            yield Leak(
                kind=kind,
                first=first,
                second=second,
                num_shared=len(both),
                num_images=len(pairs),
                pairs=tuple(sorted(pairs)[:NUM_KEPT]),
            )


def doubt_patients(splits: dict[str, Split], *, train_on: str) -> list[str]:
    """Find patients of two splits whose identifiers differ only in capitals, leading zeros or hyphens.

    Args:
        splits: splits to compare, by name, in the order train, val, test.
        train_on: ``normal``, which ignores the abnormal images of train, or ``all``.

    Returns:
        Lines of text, one for every two splits; patients are never named.
    """
    members = [
        (name, sample)
        for name, split in splits.items()
        for sample in split.samples
        if sample.patient and not (name == "train" and train_on == "normal" and sample.label != NORMAL)
    ]
    by_key: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for name, sample in members:
        by_key[loose_key(sample.patient or "")][name].append(sample)
    lines = []
    for first, second in combinations(splits, 2):
        pairs = []
        for by_split in by_key.values():
            known = {sample.patient for sample in by_split.get(first, ())}
            others = [sample for sample in by_split.get(second, ()) if known and sample.patient not in known]
            pairs += [(sample.name, by_split[first][0].name) for sample in others]
        if pairs:
            shown = " and ".join(min(pairs))
            lines.append(
                f"images of {second} whose patients may be in {first}, too, as their identifiers differ only in "
                f"capitals, zeros or hyphens: {len(pairs):,}, the first: {shown}"
            )
    return lines


def refuse_leaks(leaks: Iterable[Leak]) -> None:
    """Refuse leaks, for --strict.

    Args:
        leaks: leaks between splits.

    Raises:
        InputError: there is a leak.
    """
    if listed := list(leaks):
        more = f" (and {len(listed) - 1} more kinds of leaks)" if len(listed) > 1 else ""
        raise InputError(f"--strict: {listed[0]}{more}; remove them from one split, or leave --strict out")
