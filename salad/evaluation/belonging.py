"""Compare what headers tell of films with what they told of the training images, to find films of another kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from salad.errors import printable

LEAST_TOLD = 5  # training images that have to tell a fact, which counts only if half of them do
PHRASES = {"view": "{} view", "part": "body part {}", "modality": "modality {}", "pixels": "{} pixels"}
LINK = ", but the model was trained on "

Told = Mapping[str, Mapping[str, int]]
"""Number of training images by the value of each fact; a fact that too few of them tell is missing."""


def count_told(facts: Sequence[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """Count what the training images tell.

    Args:
        facts: facts of each image, by name; empty for an image that tells none.
    """
    counts = {name: Counter(told[name] for told in facts if name in told) for name in PHRASES}
    least = max(LEAST_TOLD, len(facts) / 2)
    return {name: dict(sorted(values.items())) for name, values in counts.items() if values.total() >= least}


def with_further(told: Told, facts: Sequence[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """Add films to the counts of the facts that are known already."""
    more = {name: Counter(film[name] for film in facts if name in film) for name in told}
    return {name: dict(sorted((Counter(values) + more[name]).items())) for name, values in told.items()}


def find_strange(facts: Mapping[str, str], told: Told) -> tuple[str, ...]:
    """Find the facts of a film that none of the training images shares, each in words.

    Args:
        facts: facts of the film.
        told: counts of the training images; a fact that either does not tell is not judged.
    """
    return tuple(
        phrase.format(facts[name]) + LINK + printable(" and ".join(told[name]))
        for name, phrase in PHRASES.items()
        if name in facts and told.get(name) and facts[name] not in told[name]
    )


def in_short(strange: str) -> str:
    """Shorten words of `find_strange` to what the film is."""
    return strange.partition(LINK)[0]
