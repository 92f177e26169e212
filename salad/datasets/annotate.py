"""What is known of the images of class folders beside their class: from tables beside them, and from their names."""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from salad.datasets.rows import age_in_years
from salad.datasets.sample import Sample, printable

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
    """What all tables say, by the path or the file name that they give; what several rows find is joined."""
    notes: dict[str, Note] = {}
    try:
        tables = sorted(path for path in data_path.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    except OSError:  # its folders may be entered though it cannot be listed
        return {}
    for path in tables[:MAX_TABLES]:
        try:
            if not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES:
                continue
            num_before = len(notes)
            for image, note in _read_table(path):
                known = notes.setdefault(image, note)
                for name in ("patient", "view", "sex", "age"):
                    if getattr(known, name) is None:
                        setattr(known, name, getattr(note, name))
                known.findings = tuple(dict.fromkeys((*known.findings, *note.findings)))
            logger.debug("%s: tells of %d images", printable(path), len(notes) - num_before)
        except (OSError, csv.Error) as error:
            logger.debug("%s: not read as a table (%s)", printable(path), printable(error))
    return notes


def _read_table(path: Path) -> Iterator[tuple[str, Note]]:
    """The rows of a table that names images; none of any other."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header = [re.sub(r"[^a-z]", "", name.lower()) for name in next(rows, [])]
        places = {
            what: next((header.index(name) for name in names if name in header), None)
            for what, names in COLUMNS.items()
        }
        image_place = places.pop("path")
        if image_place is None or all(place is None for place in places.values()):
            return
        for row in rows:
            cells = [cell.strip() for cell in row]
            if len(cells) == len(header) and cells[image_place]:
                found = {what: "" if place is None else cells[place] for what, place in places.items()}
                label = LABEL_WORDS.get(found["label"], found["label"])
                findings = tuple(filter(None, (found["findings"] or label).split("|")))
                image = cells[image_place].replace("\\", "/").removeprefix("./")
                yield (
                    image,
                    Note(
                        patient=found["patient"] or None,
                        view=found["view"] or None,
                        sex=found["sex"] or None,
                        age=age_in_years(found["age"]),
                        findings=findings,
                    ),
                )
