"""Hold out the images of some training patients for data sets without validation images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
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
    patients = in_digest_order({patient_of(sample) for sample in train.samples}, salt=b"val ")
    if len(patients) < 2:
        return HeldOut(train, None)
    held = set(patients[: max(1, round(share * len(patients)))])
    return HeldOut(
        replace(train, samples=[sample for sample in train.samples if patient_of(sample) not in held]),
        replace(train, samples=[sample for sample in train.samples if patient_of(sample) in held], doubts=()),
    )


def patient_of(sample: Sample) -> str:
    """Return the patient of an image; one whose patient is unknown is a patient of its own."""
    return sample.patient or sample.name


def in_digest_order(patients: Iterable[str], *, salt: bytes) -> list[str]:
    """Sort patients by a digest: an order that is arbitrary, but always the same.

    Args:
        patients: their names.
        salt: begins what the digest is made of, so that each purpose has an order of its own.
    """
    return sorted(patients, key=lambda name: hashlib.sha256(salt + name.encode(errors="surrogateescape")).digest())
