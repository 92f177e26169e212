"""Divide a data set into folds by patient, and write data sets as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from salad.datasets import read_split
from salad.datasets.hold_out import in_digest_order, patient_of
from salad.errors import InputError, printable
from salad.runs.csv_file import csv_lines
from salad.samples import ABNORMAL, NORMAL, Sample, Selection
from salad.study.plan import Data

COLUMNS = ("path", "label", "split", "patient_id", "finding", "view", "sex", "age")  # of a `Table`
FOLDER = "folds"


Splits = Mapping[str, Sequence[Sample]]
"""Samples of train, val and test by these names."""


def divide(data: Data, selection: Selection, count: int) -> list[Splits]:
    """Divide a data set into folds.

    All normal images (of train, val and test) and the abnormal ones of test are dealt out by patient. The test images
    of a fold are its own; its training images are those of train, and the normal ones of val and test, of all other
    patients. An image of an unknown patient counts as a patient of its own. The folds depend on the names of patients
    and files alone.

    Args:
        data: data set.
        selection: images to use; `val_share` is left to the trainings.
        count: number of folds, K.

    Returns:
        Training and test images of the K folds.

    Raises:
        InputError: fewer than K patients have normal images, or abnormal ones; or the images are not files of their
            own.
    """
    splits = {name: _read(data, selection, name) for name in ("train", "val", "test")}
    every = [sample for samples in splits.values() for sample in samples]
    if any(sample.array is not None or sample.row is not None for sample in every):
        raise InputError(
            f"--folds is {count}, but {printable(data.path)} holds its images in arrays, which no table can name"
        )
    normal = _unique(sample for sample in every if sample.label == NORMAL)
    abnormal = [sample for sample in splits["test"] if sample.label == ABNORMAL]
    fold_of = deal([normal, abnormal], count)
    trained = _unique([*splits["train"], *normal])
    divided: list[Splits] = []
    for fold in range(1, count + 1):
        test = [sample for sample in [*normal, *abnormal] if fold_of[patient_of(sample)] == fold]
        patients = {patient_of(sample) for sample in test}
        divided.append({"train": [sample for sample in trained if patient_of(sample) not in patients], "test": test})
    return divided


def write_folds(divided: Iterable[Splits], out: Path) -> list[Data]:
    """Write each fold as a table below the folder of a study.

    Returns:
        The data sets.

    Raises:
        InputError: the folder holds folds of other images.
    """
    return [
        Data(dataset_name="Table", path=write_table(out / FOLDER / f"fold{fold}.csv", splits), fold=fold)
        for fold, splits in enumerate(divided, start=1)
    ]


def deal(classes: Sequence[Sequence[Sample]], count: int) -> dict[str, int]:
    """Deal the patients of each class of images out to folds, 1 to `count`, in turn, in the order of a digest.

    Raises:
        InputError: a class has fewer patients than there are folds.
    """
    fold_of: dict[str, int] = {}
    for label, samples in zip(("normal", "abnormal test"), classes, strict=True):
        patients = in_digest_order({patient_of(sample) for sample in samples}, salt=b"fold ")
        sizes = [sum(fold_of.get(patient) == fold for patient in patients) for fold in range(1, count + 1)]
        for patient in patients:
            if patient not in fold_of:
                fold = sizes.index(min(sizes))
                fold_of[patient] = fold + 1
                sizes[fold] += 1
        if not all(sizes):
            raise InputError(
                f"--folds is {count}, but {len(patients)} patients have {label} images, and each fold needs some: "
                "choose fewer folds"
            )
    return fold_of


def _read(data: Data, selection: Selection, split: str) -> list[Sample]:
    listed = read_split(data.dataset_name, data.path, split, selection=selection)
    return listed.samples if listed else []


def _unique(samples: Iterable[Sample]) -> list[Sample]:
    """Drop the samples whose file came before."""
    return [*{sample.path: sample for sample in samples}.values()]


def write_table(path: Path, splits: Splits) -> Path:
    """Write samples as a `Table`, unless it is written already.

    Args:
        path: of the table.
        splits: samples to write.

    Returns:
        The path.

    Raises:
        InputError: there is a table of other images.
    """
    rows = [_row(sample, split) for split, samples in splits.items() for sample in samples]
    text = csv_lines([COLUMNS, *rows])
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{printable(path)}: is a table of other images, and runs of it may lie there: choose another --out"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _row(sample: Sample, split: str) -> list[object]:
    finding = sample.findings[0] if sample.findings else None
    values = (sample.path.resolve(), sample.label, split, sample.patient, finding, sample.view, sample.sex, sample.age)
    return ["" if value is None else value for value in values]
