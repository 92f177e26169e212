"""Every file decoded once before a run, so that a damaged one is found now and not after hours."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from salad.datasets.images import read_image
from salad.datasets.sample import Sample, Skipped, Split, printable
from salad.errors import InputError
from salad.interrupt import start_worker

logger = logging.getLogger(__name__)

SKIPPED_FILE = "skipped.csv"
FILES_PER_TASK = 8
SHOWN_ON_SCREEN = 20  # bad files; log.txt has all


class FileChecks(Dataset[list["str | None"]]):
    """What is wrong with the files of one task, each decoded as the run will decode it; None for a good one."""

    def __init__(self, paths: list[Path], *, isize: int, resize: str) -> None:
        self.paths = paths
        self.isize = isize
        self.resize = resize

    def __len__(self) -> int:
        return -(-len(self.paths) // FILES_PER_TASK)

    def __getitem__(self, task: int) -> list[str | None]:
        return [self._check(path) for path in self.paths[task * FILES_PER_TASK : (task + 1) * FILES_PER_TASK]]

    def _check(self, path: Path) -> str | None:
        try:
            read_image(path, isize=self.isize, resize=self.resize)
        except InputError as error:
            return str(error).removeprefix(f"{printable(path)}: ")
        return None


def scan(splits: dict[str, Split], *, isize: int, resize: str, num_workers: int, on_bad_image: str) -> dict[str, Split]:
    """Decode every file of some splits once.

    Args:
        splits: by name, ``train``, ``val`` or ``test``.
        isize: S, in pixels.
        resize: ``squash``, ``pad`` or ``crop``.
        num_workers: processes that decode; 0 decodes in this one.
        on_bad_image: ``error``, or ``skip``, which leaves bad files out.

    Returns:
        The splits without the bad files, which stand in their `skipped`.

    Raises:
        InputError: there are bad files, all of them logged; or with ``skip``, a split holds no other.
    """
    samples = [sample for split in splits.values() for sample in split.samples]
    reasons = _find_reasons(samples, isize=isize, resize=resize, num_workers=num_workers)
    kept = {name: _without_bad(name, split, reasons) for name, split in splits.items()}
    skipped = [one for split in kept.values() for one in split.skipped]
    if skipped:
        _log(skipped, logging.WARNING if on_bad_image == "skip" else logging.ERROR)
    folders = " and ".join(f"{name}/" for name in splits)
    count = f"{len(skipped)} of {len(samples)} images of {folders}"
    if skipped and on_bad_image == "error":
        raise InputError(
            f"{count} cannot be read, the first is {skipped[0].name} ({skipped[0].reason}); log.txt names each: "
            "mend or remove them, or leave them out with --on_bad_image skip"
        )
    for name, split in kept.items():
        if split.skipped and not split.samples:
            raise InputError(f"none of the {len(split.skipped)} images of {name}/ can be read; log.txt says why")
    if skipped:
        logger.warning("%s cannot be read and are left out; %s names them", count, SKIPPED_FILE)
    return kept


def _find_reasons(samples: list[Sample], *, isize: int, resize: str, num_workers: int) -> dict[Path, str]:
    """Why a file cannot be read, of the bad ones alone."""
    checks = FileChecks([sample.path for sample in samples], isize=isize, resize=resize)
    loader = DataLoader(
        checks,
        batch_size=None,
        num_workers=min(num_workers, len(checks)),
        worker_init_fn=start_worker,
        generator=torch.Generator().manual_seed(0),  # else it takes a number from the global one
    )
    found: list[str | None] = []
    with tqdm(total=len(samples), desc="checking images", leave=False, disable=None) as bar:
        try:
            for task in loader:
                found += task
                bar.update(len(task))
        except RuntimeError as error:  # a worker died: out of memory, or a decoder crashed
            raise InputError(
                f"{samples[len(found)].name}, or a file after it, ended a process that decodes images "
                f"({printable(error)}): is there memory enough? fewer --n_jobs_dataloader need less"
            ) from None
    return {sample.path: reason for sample, reason in zip(samples, found, strict=True) if reason is not None}


def _without_bad(name: str, split: Split, reasons: dict[Path, str]) -> Split:
    bad = [sample for sample in split.samples if sample.path in reasons]
    skipped = tuple(Skipped(sample.name, reasons[sample.path], name) for sample in bad)
    good = [sample for sample in split.samples if sample.path not in reasons]
    return replace(split, samples=good, skipped=skipped)


def _log(skipped: list[Skipped], level: int) -> None:
    for number, one in enumerate(skipped):
        logger.log(level, "%s: %s", one.name, one.reason, extra={"only_in_file": number >= SHOWN_ON_SCREEN})
    if len(skipped) > SHOWN_ON_SCREEN:
        logger.log(level, "... and %d more, see log.txt", len(skipped) - SHOWN_ON_SCREEN)


def write_skipped(xp_path: Path, skipped: tuple[Skipped, ...], *, scanned: tuple[str, ...]) -> None:
    """Write skipped.csv (path, reason, split).

    Training and scoring share the file: lines about splits that were not scanned now stay. Where no line is
    left there is no file.

    Args:
        xp_path: the run folder.
        skipped: what was left out.
        scanned: the splits that were looked at, bad files or none.
    """
    path = xp_path / SKIPPED_FILE
    lines = [line for line in _read_skipped(path) if line.split not in scanned] + list(skipped)
    if not lines:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason", "split"])
        writer.writerows((line.name, line.reason, line.split) for line in lines)


def _read_skipped(path: Path) -> list[Skipped]:
    """The lines of an earlier program; a file that is none of ours counts as empty."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [Skipped(line["path"], line["reason"], line["split"]) for line in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error):
        return []
