"""Labels that something else in the data contradicts: hints, of which none changes a label."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from salad.datasets.folders import NORMAL_WORDS
from salad.errors import printable
from salad.samples import ABNORMAL, NORMAL, Sample

LABELS = {NORMAL: "normal", ABNORMAL: "abnormal"}
# in names of files; words like `good` and `positive` say too many other things there
NAMED_NORMAL = {"normal", "healthy"}
NAMED_ABNORMAL = {"abnormal", "bacteria", "virus", "pneumonia", "covid", "tuberculosis"}
MAX_SHOWN = 60  # characters of a finding


def find_contradictions(samples: list[Sample]) -> list[str]:
    """What speaks against the labels of some samples, a line each kind.

    Findings count where at least one image of the data has a finding that means normal, so that the words
    are understood; those that mean anything else are then abnormal, and an image with both kinds, as where
    readers differ, is left alone. Names of files count where they hold words of one kind only.
    """
    lines = []
    known = [sample for sample in samples if sample.findings and sample.row is None]  # of arrays they are the labels
    words = sorted({finding for sample in known for finding in sample.findings})
    if any(map(_means_normal, words)):
        for label, word in LABELS.items():
            if against := [one for one in known if one.label == label and _found_label(one) not in (None, label)]:
                first = f"{against[0].name} ({_short(', '.join(against[0].findings))})"
                count = f"{len(against):,} of {len(known):,}"
                lines.append(f"images labelled {word} whose findings say otherwise: {count}, the first: {first}")
    elif any(sample.label == NORMAL for sample in known) and not all(map(str.isdecimal, words)):
        lines.append(f"findings are not compared with the labels: none means normal ({_short(', '.join(words))})")
    for label, word in LABELS.items():
        named = [one for one in samples if one.label == label and _named_label(one) not in (None, label)]
        if named:
            first = named[0].name
            lines.append(f"images labelled {word} whose names say otherwise: {len(named):,}, the first: {first}")
    return lines


def find_twofold(groups: Iterable[list[Sample]]) -> list[str]:
    """A line where the same content has both labels."""
    both = [group for group in groups if len({sample.label for sample in group}) > 1]
    if not both:
        return []
    shown = " and ".join(
        next(f"{sample.name} ({word})" for sample in both[0] if sample.label == label) for label, word in LABELS.items()
    )
    return [f"contents that are labelled normal and abnormal: {len(both):,}, the first: {shown}"]


def _found_label(sample: Sample) -> int | None:
    """The label that the findings tell, if they agree."""
    labels = {NORMAL if _means_normal(finding) else ABNORMAL for finding in sample.findings}
    return labels.pop() if len(labels) == 1 else None


@lru_cache(maxsize=1000)
def _means_normal(finding: str) -> bool:
    """Whether the whole finding is a word for normal: `Not Normal` holds one, too."""
    return re.sub(r"[^a-z]", "", finding.lower()) in NORMAL_WORDS


def _named_label(sample: Sample) -> int | None:
    """The label that a file's name tells, if it tells one."""
    if sample.row is not None:
        return None
    words = set(re.findall(r"[a-z]+", sample.path.stem.lower()))
    is_normal, is_abnormal = bool(words & NAMED_NORMAL), bool(words & NAMED_ABNORMAL)
    return None if is_normal == is_abnormal else NORMAL if is_normal else ABNORMAL


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
