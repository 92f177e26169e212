"""Find labels that findings, file names or identical images contradict; no label is changed."""

from __future__ import annotations

from collections.abc import Iterable

from salad.datasets.words import Sense, sense_of, words_of
from salad.errors import printable
from salad.samples import ABNORMAL, NORMAL, Sample

LABELS = {NORMAL: "normal", ABNORMAL: "abnormal"}
# words in file names; `good` and `positive` are left out because they have other meanings there
NAMED_NORMAL = {"normal", "healthy"}
NAMED_ABNORMAL = {"abnormal", "bacteria", "virus", "pneumonia", "covid", "tuberculosis"}
MAX_SHOWN = 60  # characters of a finding


def find_contradictions(samples: list[Sample]) -> list[str]:
    """Find samples whose findings or file names contradict their labels.

    Findings are compared only if at least one finding of the data means normal; otherwise their wording is unknown.
    Then all other findings count as abnormal. An image with normal and abnormal findings, as when readers disagree,
    is not compared. A file name is compared only if it has normal words or abnormal words, not both.

    Args:
        samples: samples of all splits.

    Returns:
        Lines of text, one per kind of contradiction.
    """
    lines = []
    known = [
        sample for sample in samples if sample.findings and sample.row is None
    ]  # an array's findings are its labels
    words = sorted({finding for sample in known for finding in sample.findings})
    if any(map(_means_normal, words)):
        for label, word in LABELS.items():
            if against := [
                sample for sample in known if sample.label == label and _found_label(sample) not in (None, label)
            ]:
                first = f"{against[0].name} ({_short(', '.join(against[0].findings))})"
                count = f"{len(against):,} of {len(known):,}"
                lines.append(f"images labelled {word} whose findings say otherwise: {count}, the first: {first}")
    elif any(sample.label == NORMAL for sample in known) and not all(map(str.isdecimal, words)):
        lines.append(f"findings are not compared with the labels: none means normal ({_short(', '.join(words))})")
    for label, word in LABELS.items():
        named = [sample for sample in samples if sample.label == label and _named_label(sample) not in (None, label)]
        if named:
            first = named[0].name
            lines.append(f"images labelled {word} whose names say otherwise: {len(named):,}, the first: {first}")
    return lines


def find_twofold(groups: Iterable[list[Sample]]) -> list[str]:
    """Find identical images with both labels.

    Args:
        groups: groups of samples with identical content.

    Returns:
        One line of text, or none.
    """
    both = [group for group in groups if len({sample.label for sample in group}) > 1]
    if not both:
        return []
    shown = " and ".join(
        next(f"{sample.name} ({word})" for sample in both[0] if sample.label == label) for label, word in LABELS.items()
    )
    return [f"identical images labelled normal and abnormal: {len(both):,}, the first: {shown}"]


def _found_label(sample: Sample) -> int | None:
    """Return the label that the findings imply; None if they disagree."""
    labels = {NORMAL if _means_normal(finding) else ABNORMAL for finding in sample.findings}
    return labels.pop() if len(labels) == 1 else None


def _means_normal(finding: str) -> bool:
    """Return True if a finding means normal, unlike `Not Normal`, which only contains the word."""
    return sense_of(finding) is Sense.NORMAL


def _named_label(sample: Sample) -> int | None:
    """Return the label that the file name implies; None if it implies none or both."""
    if sample.row is not None:
        return None
    words = words_of(sample.path.stem)
    if NAMED_NORMAL.intersection(words) and sense_of(sample.path.stem) is Sense.ABNORMAL:
        return ABNORMAL  # not_normal_1.png
    is_normal, is_abnormal = bool(NAMED_NORMAL.intersection(words)), bool(NAMED_ABNORMAL.intersection(words))
    return None if is_normal == is_abnormal else NORMAL if is_normal else ABNORMAL


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
