"""Find sub-folders that mirror each other, as a folder of masks mirrors that of its films."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from salad.images.headers import Header
from salad.images.names import shortened, stem_of
from salad.samples import Sample

MIN_SHARED = 3  # file names that two folders share: those of patients share `view1` and `view2`
MAX_FOLDERS = 8  # siblings to compare: more are folders of patients


def find_mirrors(samples: list[Sample], headers: Iterable[Header | None]) -> list[str]:
    """Find folders beside each other that hold files of the same names, or as many images of the same sizes.

    Args:
        samples: samples of one split whose headers were read.
        headers: header of each sample, or None.

    Returns:
        Lines of text, at most one for the folders below one folder.
    """
    inner: dict[Path, dict[str, list[tuple[str, tuple[int, int] | None]]]] = defaultdict(lambda: defaultdict(list))
    for sample, header in zip(samples, headers, strict=True):
        if sample.row is None and sample.name.count("/") > 2:  # below a class folder
            folder = sample.path.parent
            size = (header.width, header.height) if header else None
            inner[folder.parent][folder.name].append((sample.path.name, size))
    lines = []
    for parent, folders in inner.items():
        if 2 <= len(folders) <= MAX_FOLDERS and (said := _first_mirror(folders)):
            lines.append(f"{shortened(parent.name)}/: {said}: does one of them hold masks or copies?")
    return lines


def _first_mirror(folders: dict[str, list[tuple[str, tuple[int, int] | None]]]) -> str:
    """Describe the first two folders that mirror each other; empty if there are none."""
    for first, second in combinations(sorted(folders), 2):
        stems = [{stem_of(name) for name, _ in folders[folder]} for folder in (first, second)]
        shared = len(stems[0] & stems[1])
        if shared >= MIN_SHARED and 2 * shared >= min(map(len, stems)):
            return f"{shortened(first)}/ and {shortened(second)}/ hold {shared:,} files of the same names"
        sizes = [Counter(size for _, size in folders[folder]) for folder in (first, second)]
        if len(stems[0]) >= MIN_SHARED and sizes[0] == sizes[1] and len(sizes[0]) > 1 and None not in sizes[0]:
            return f"{shortened(first)}/ and {shortened(second)}/ hold as many images of the same sizes"
    return ""
