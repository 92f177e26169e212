"""What is known of the images of class folders beside their class: from tables beside them, and from their names."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from salad.datasets.tables import age_in_years, read_rows
from salad.errors import InputError, printable
from salad.samples import Sample

logger = logging.getLogger(__name__)

MAX_TABLES = 8
MAX_TABLE_BYTES = 64 * 2**20  # the table of all of ChestX-ray14 has 8 MB
COLUMNS = {
    "path": ("path", "imageindex", "imagepath", "image", "filename", "file"),
    "patient": ("patientid", "patient", "subjectid"),
    "view": ("viewposition", "view"),
    "findings": ("findinglabels", "findings", "finding"),
    "sex": ("sex", "patientsex", "gender", "patientgender"),
    "age": ("age", "patientage"),
    "label": ("label",),
}
LABEL_WORDS = {"0": "normal", "1": "abnormal"}

NIH_NAME = re.compile(r"000(\d{5})_\d{3}")  # patient_follow-up
# Kermany et al.: bacterial and viral patients are counted separately, and so are both series of normal ones
PNEUMONIA_NAME = re.compile(r"(person\d+_(?:bacteria|virus))(?:_\d+)+")
NORMAL_NAME = re.compile(r"((?:NORMAL2-)?IM-\d{4})(?:-\d{4})+")


@dataclass(kw_only=True)
class Note:
    """What tables say of one image."""

    patient: str | None = None
    view: str | None = None
    sex: str | None = None
    age: float | None = None
    findings: tuple[str, ...] = ()


def annotate(samples: list[Sample], data_path: Path) -> list[Sample]:
    """Fill in patient, view, sex, age and findings, where they are known.

    Tables are the .csv and .tsv files directly in DATA_PATH with one column of image paths (or of names of
    files) and one of `COLUMNS` beside it; a label of 0 or 1 counts as the finding ``normal`` or ``abnormal``
    where there is no column of findings. Patients that no table tells are told by the names of files of
    NIH ChestX-ray14 and of the paediatric set of Kermany et al.

    Args:
        samples: of one split, each a file.
        data_path: the data set.

    Returns:
        The same samples in the same order; labels are never changed.
    """
    notes = _read_tables(data_path)
    stems = [sample.path.stem for sample in samples]
    # other programs, too, write IM-0001-0001 as the first image of every patient
    is_kermany = any(stem.startswith("NORMAL2-IM-") or PNEUMONIA_NAME.fullmatch(stem) for stem in stems)
    num_named = Counter(sample.path.name for sample in samples)
    annotated = []
    for sample, stem in zip(samples, stems, strict=True):
        note = notes.get(sample.name)
        if note is None and num_named[sample.path.name] == 1:  # else it is not known which one is meant
            note = notes.get(printable(sample.path.name))
        note = note or Note()
        patient = note.patient or patient_from_name(stem, is_kermany=is_kermany)
        annotated.append(replace(sample, **{**vars(note), "patient": patient}))
    return annotated


def patient_from_name(stem: str, *, is_kermany: bool) -> str | None:
    """Whose image a file of a known naming is, else None.

    Args:
        stem: the name without its suffix.
        is_kermany: whether names like ``IM-0115-0001`` tell the patient.
    """
    if found := NIH_NAME.fullmatch(stem):
        return str(int(found[1]))  # as the official table writes it
    found = PNEUMONIA_NAME.fullmatch(stem) or (NORMAL_NAME.fullmatch(stem) if is_kermany else None)
    return found[1] if found else None


def _read_tables(data_path: Path) -> dict[str, Note]:
    """Read all tables, by the path or the file name that they give; what several rows find is joined."""
    notes: dict[str, Note] = {}
    try:
        tables = sorted(path for path in data_path.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    except OSError:  # its folders may be entered though it cannot be listed
        return {}
    for path in tables[:MAX_TABLES]:
        found: list[tuple[str, Note]] = []
        try:
            if path.stat().st_size > MAX_TABLE_BYTES:
                raise InputError(f"{printable(path)}: larger than {MAX_TABLE_BYTES:,} bytes")
            for image_and_note in _read_table(path):
                found.append(image_and_note)
        except (OSError, InputError) as error:  # of a table of images its user should hear; others may be anything
            logger.log(logging.WARNING if found else logging.DEBUG, "%s; so nothing of it is used", printable(error))
            continue
        for image, note in found:
            known = notes.setdefault(image, note)
            for name in ("patient", "view", "sex", "age"):
                if getattr(known, name) is None:
                    setattr(known, name, getattr(note, name))
            known.findings = tuple(dict.fromkeys((*known.findings, *note.findings)))
    return notes


def _read_table(path: Path) -> Iterator[tuple[str, Note]]:
    """Read the rows of a table that names images; none of any other.

    Raises:
        InputError: it cannot be read, or a row is none.
    """
    columns: dict[str, str] = {}
    for _, row in read_rows(path):
        columns = columns or _find_columns(list(row))
        if not columns:
            return
        cells = dict.fromkeys(COLUMNS, "") | {what: row[column] for what, column in columns.items()}
        image = printable(cells["path"].replace("\\", "/").removeprefix("./"))
        label = LABEL_WORDS.get(cells["label"], cells["label"])
        note = Note(
            patient=cells["patient"] or None,
            view=cells["view"] or None,
            sex=cells["sex"] or None,
            age=age_in_years(cells["age"]),
            findings=tuple(filter(None, (cells["findings"] or label).split("|"))),
        )
        if image:
            yield image, note


def _find_columns(header: list[str]) -> dict[str, str]:
    """Find the columns of a table that names images and says something of them; none in any other."""
    squeezed = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(header)}
    found = {what: squeezed[name] for what, names in COLUMNS.items() for name in reversed(names) if name in squeezed}
    return found if "path" in found and len(found) > 1 else {}
