"""Refuse a folder whose images all count as one class where its names or its tables say otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from salad.datasets.words import Sense, sense_of
from salad.errors import InputError, printable
from salad.images.names import shortened
from salad.samples import NORMAL, Sample

WORDS = {True: Sense.NORMAL, False: Sense.ABNORMAL}


def inner_folders(folder: Path, files: Iterable[Path]) -> set[tuple[str, ...]]:
    """Collect the folders of files, each as the names from `folder` on; empty for `folder` itself."""
    parents = {os.path.dirname(file) for file in files}  # noqa: PTH120  # Path is slow for a million names
    return {Path(parent).relative_to(folder).parts for parent in parents}


def refuse_names(folder: Path, files: Iterable[Path], *, label: int, option: str, way_out: str) -> None:
    """Refuse a folder if the name of a folder with images says that they are of the other class.

    Args:
        folder: folder as given; its own name counts where no inner one says the class.
        files: images below it.
        label: class that all of them count as, 0 normal or 1 abnormal.
        option: option that gave the folder, for the message; empty for DATA_PATH.
        way_out: advice at the end of the message.

    Raises:
        InputError: a name says otherwise.
    """
    is_normal, inner = label == NORMAL, inner_folders(folder, files)
    own, other = WORDS[is_normal], WORDS[not is_normal]
    against = sorted(name for name in {part for parts in inner for part in parts} if sense_of(name) is other)
    is_unsaid = any(all(sense_of(part) is not own for part in parts) for parts in inner)
    said = f"holds a folder called {shortened(against[0])}" if against else ""
    if not said and is_unsaid and sense_of(folder.name) is other:
        said = f"is called {shortened(folder.name)}"
    if said:
        raise InputError(f"{_start(folder, option)} would count as {own.value}, but it {said}: {way_out}")


def refuse_findings(folder: Path, samples: list[Sample], *, option: str, way_out: str) -> None:
    """Refuse a folder of normal images if its tables say that some are abnormal, and not also that they are normal.

    Args:
        folder: folder as given.
        samples: its images, with the findings of its tables.
        option: option that gave the folder, for the message; empty for DATA_PATH.
        way_out: advice at the end of the message.

    Raises:
        InputError: tables say otherwise.
    """
    senses = [{sense_of(finding) for finding in sample.findings} for sample in samples]
    abnormal = [
        sample
        for sample, of_sample in zip(samples, senses, strict=True)
        if Sense.ABNORMAL in of_sample and Sense.NORMAL not in of_sample
    ]
    if abnormal:
        finding = next(finding for finding in abnormal[0].findings if sense_of(finding) is Sense.ABNORMAL)
        raise InputError(
            f"{_start(folder, option)} would count as normal, but its tables say otherwise of {len(abnormal):,} "
            f"images, the first is {shortened(abnormal[0].name)} ({shortened(finding)}): {way_out}"
        )


def _start(folder: Path, option: str) -> str:
    return f"{option} {printable(folder)}".strip() + ": everything in it"
