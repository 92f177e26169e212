"""Format an inspection as lines of text that fit one screen."""

from __future__ import annotations

import re

from salad.checks.baselines import Baselines
from salad.checks.films import Unread
from salad.checks.inspection import SPLITS, Inspection, SplitFacts, count_images
from salad.samples import Split

MAX_VALUES = 3  # views, sizes, modes or classes to name
MAX_WARNINGS = 12
MAX_WIDTH = 300  # characters of a line; file names can be long


def fact_lines(inspection: Inspection) -> list[str]:
    """Describe each split in a line, then the comparison by content."""
    lines = [
        f"{name:<5}  {_split_line(inspection.splits[name], inspection.unread.get(name))}"
        for name in SPLITS
        if name in inspection.splits
    ]
    lines += [f"{name:<5}  {reason}" for name, reason in inspection.absent.items()]
    num_images = sum(split.num_images for split in inspection.splits.values())
    compared = f"compared by content: {num_images - inspection.num_uncompared:,} images"
    if inspection.num_uncompared:
        compared += f"; {inspection.num_uncompared:,} others were not, to limit the reading at every start"
    if inspection.copies:
        compared += (
            f"; copies within a split: {len(inspection.copies):,}, the first: {' of '.join(inspection.copies[0])}"
        )
    return [_cut(line) for line in [*lines, compared]]


def warning_lines(inspection: Inspection) -> list[str]:
    """List unread images, leaks, numbers that will rest on few images, then doubts, one line each."""
    lines = [unread.line(name) for name, unread in inspection.unread.items() if unread.num_images]
    lines += [f"leak: {leak}" for leak in inspection.leaks] + [*inspection.few]
    lines += [f"doubt: {doubt}" for doubt in inspection.doubts]
    if len(lines) > MAX_WARNINGS:
        lines = [*lines[: MAX_WARNINGS - 1], f"... and {len(lines) - MAX_WARNINGS + 1} more warnings"]
    return [_cut(line) for line in lines]


def baseline_lines(baselines: Baselines) -> list[str]:
    """List the baseline AUCs on val that a model has to beat."""
    images = f"{baselines.num_images:,} images" + (" (a sample)" if baselines.is_sample else "")
    aucs = [f"  {name:<15} {value or 'undefined or the same for all'}" for name, value in baselines.aucs.items()]
    return [f"AUC on val without any model, {images}; below 0.5, smaller values are the abnormal ones:", *aucs]


def describe_split(split: Split) -> str:
    """Describe a split in a line by its labels, patients and views, without opening its files."""
    return _split_line(count_images(split), None)


def _split_line(split: SplitFacts, unread: Unread | None) -> str:
    abnormal = {name: count for name, count in split.classes.items() if name != split.normal_class}
    classes = [f"{split.num_normal:,} normal ({split.normal_class})"]
    if split.num_abnormal:
        names = "" if abnormal.keys() == {"abnormal"} else f" ({_values(abnormal)})"
        classes.append(f"{split.num_abnormal:,} abnormal{names}" + (", left out" if split.num_left_out else ""))
    parts = [f"{split.num_images:,} images: {', '.join(classes)}"]
    if unread and unread.num_images:
        parts.append(f"{unread.num_images:,} cannot be read")
    if split.num_patients:
        unknown = f" ({split.num_without_patient:,} images without)" if split.num_without_patient else ""
        parts.append(f"{split.num_patients:,} patients{unknown}")
    if split.views:
        parts.append(_values(split.views))
    if split.num_headers > split.num_unread:
        sample = f" (of {split.num_headers:,})" if split.num_headers < split.num_images else ""
        parts.append(f"{_sizes(split.sizes)}; {_values(split.modes)}{sample}")
    return "; ".join(parts)


def _values(counts: dict[str, int]) -> str:
    """Join the most frequent values; add counts if there are several values."""
    if len(counts) == 1:
        return next(iter(counts))
    shown = ", ".join(f"{value} {count:,}" for value, count in [*counts.items()][:MAX_VALUES])
    return shown + (f", {len(counts) - MAX_VALUES} others" if len(counts) > MAX_VALUES else "")


def _sizes(sizes: dict[str, int]) -> str:
    if len(sizes) <= MAX_VALUES:
        return _values(sizes)
    ordered = sorted(sizes, key=lambda size: [int(side) for side in re.findall(r"\d+", size)])
    return f"{len(sizes)} sizes from {ordered[0]} to {ordered[-1]}"


def _cut(line: str) -> str:
    return line if len(line) <= MAX_WIDTH else f"{line[:MAX_WIDTH]}..."
