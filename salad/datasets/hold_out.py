"""Validation images for data sets that come without: those of some training patients."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import NamedTuple

from salad.samples import Sample, Split


class HeldOut(NamedTuple):
    """What `hold_out` gives: the rest to train on, and the images that are held out."""

    train: Split
    val: Split | None


def hold_out(train: Split, share: float) -> HeldOut:
    """Hold out a share of the patients of a training split, the same ones each time; none where there is only one.

    An image of an unknown patient counts as a patient.

    Args:
        train: all of it.
        share: of its patients, in (0, 1).
    """
    patients = sorted({_patient(sample) for sample in train.samples}, key=_order)
    if len(patients) < 2:
        return HeldOut(train, None)
    held = set(patients[: max(1, round(share * len(patients)))])
    return HeldOut(
        replace(train, samples=[sample for sample in train.samples if _patient(sample) not in held]),
        replace(train, samples=[sample for sample in train.samples if _patient(sample) in held], doubts=()),
    )


def _patient(sample: Sample) -> str:
    return sample.patient or sample.name


def _order(patient: str) -> bytes:
    return hashlib.sha256(b"val " + patient.encode(errors="surrogateescape")).digest()
