"""Hold out the images of some training patients for data sets without validation images."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import NamedTuple

from salad.samples import Sample, Split


class HeldOut(NamedTuple):
    """Training images that remain, and held-out images for validation."""

    train: Split
    val: Split | None


def hold_out(train: Split, share: float) -> HeldOut:
    """Hold out a share of the patients of a training split, the same patients each time.

    An image of an unknown patient counts as a patient of its own.

    Args:
        train: the whole training split.
        share: share of the patients to hold out, in (0, 1).

    Returns:
        Both splits; val is None if there is only one patient.
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
