"""Add patient, view, body part, sex, age and findings to the images of class folders, from tables and file names."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from salad.datasets.boxes import Boxes, is_boxes_table, read_boxes
from salad.datasets.cells import age_in_years, id_of, known, sex_of, view_of
from salad.datasets.tables import read_rows
from salad.errors import InputError, printable
from salad.images.film_facts import CHEST
from salad.images.names import name_key, shortened, stem_of, with_slashes
from salad.samples import Sample

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_TABLES = 8
MAX_TABLE_BYTES = 64 * 2**20  # the table of ChestX-ray14 has 8 MB
COLUMNS = {
    "path": ("path", "imageindex", "imagepath", "image", "filename", "file"),
    "patient": ("patientid", "patient", "subjectid"),
    "view": ("viewposition", "view"),
    "findings": ("findinglabels", "findings", "finding"),
    "sex": ("sex", "patientsex", "gender", "patientgender"),
    "age": ("age", "patientage"),
    "label": ("label",),
}
LABEL_WORDS = {"0": "normal", "0.0": "normal", "1": "abnormal", "1.0": "abnormal"}

NIH_NAME = re.compile(r"000(\d{5})_\d{3}")  # patient_follow-up
# Kermany et al. number bacterial and viral patients separately, and use two series of numbers for normal ones
PNEUMONIA_NAME = re.compile(r"(person\d+_(?:bacteria|virus))(?:_\d+)+", re.IGNORECASE)
NORMAL_NAME = re.compile(r"((?:NORMAL2-)?IM-\d{4})(?:-\d{4})+", re.IGNORECASE)
COPY = re.compile(r"(?: ?\(\d+\)| ?-? copy)+$", re.IGNORECASE)  # of a file manager


@dataclass(kw_only=True)
class Note:
    """Facts that tables give about one image."""

    patient: str | None = None
    view: str | None = None
    sex: str | None = None
    age: float | None = None
    findings: tuple[str, ...] = ()


def annotate(samples: list[Sample], data_path: Path) -> list[Sample]:
    """Fill in patient, view, body part, sex, age, findings and boxes where they are known.

    A table is a .csv or .tsv file directly in DATA_PATH with a column of image paths or file names and at least
    one other column of `COLUMNS`. Without a column of findings, a label of 0 or 1 counts as the finding ``normal``
    or ``abnormal``. If no table gives the patient, it is read from file names of NIH ChestX-ray14 and of the
    paediatric set of Kermany et al., which also tell that a film shows a chest. Boxes come from boxes.csv (see
    `read_boxes`); their labels are the findings of an image of which no table gives a finding.

    Args:
        samples: samples of one split, one file each.
        data_path: folder of the data set.

    Returns:
        The same samples in the same order; labels never change.

    Raises:
        InputError: a row of boxes.csv does not describe a box.
    """
    tables = find_tables(data_path)
    marked = [path for path in tables if _is_of_boxes(path)]
    boxes = _Notes({image: of_image for path in marked for image, of_image in read_boxes(path).items()})
    notes = _Notes(_read_tables([path for path in tables if path not in marked]))
    stems = [stem_of(sample.path.name) for sample in samples]
    # IM-0001-0001 alone proves nothing: other programs write it as the first image of every patient
    is_kermany = any(stem.upper().startswith("NORMAL2-IM-") or PNEUMONIA_NAME.fullmatch(stem) for stem in stems)
    names = [name_key(sample.path.name) for sample in samples]
    num_named = Counter(names)
    annotated = []
    for sample, stem, name in zip(samples, stems, names, strict=True):
        is_alone = num_named[name] == 1  # a name that occurs twice is ambiguous
        note = notes.find(sample, is_alone=is_alone) or Note()
        drawn = boxes.find(sample, is_alone=is_alone) or Boxes()
        named = patient_from_name(stem, is_kermany=is_kermany)
        findings = note.findings or drawn.labels
        facts = {**vars(note), "patient": note.patient or named, "findings": findings, "boxes": drawn.boxes}
        annotated.append(replace(sample, **facts, part=CHEST if named else None))
    boxes.say_unused(samples)
    return annotated


class _Notes(Generic[T]):
    """Notes of tables, to find by the path of an image, the end of a longer path, or its file name.

    Args:
        notes: notes by the path in a table.
    """

    def __init__(self, notes: dict[str, T]) -> None:
        self.notes = notes
        self.used: set[str] = set()
        self.ends: dict[str, list[str]] = defaultdict(list)
        self.without_capitals: dict[str, list[str]] = defaultdict(list)
        for path in notes:
            self.ends[path.rpartition("/")[2]].append(path)
            self.without_capitals[path.casefold()].append(path)

    def find(self, sample: Sample, *, is_alone: bool) -> T | None:
        """Find the note of a sample; a file name tells only where no other image has it."""
        if not self.notes:
            return None
        name, file = name_key(sample.name), name_key(printable(sample.path.name))
        longer = [path for path in self.ends.get(file, ()) if path.endswith(f"/{name}")]
        paths = [name, *(longer if len(longer) == 1 else []), *([file] if is_alone else [])]
        paths += [other for path in paths for other in self._in_other_capitals(path)]
        held = next((path for path in paths if path in self.notes), None)
        if held is None:
            return None
        self.used.add(held)
        return self.notes[held]

    def say_unused(self, samples: list[Sample]) -> None:
        """Warn of boxes whose paths lie in the folder of these samples, of one split, where there is no such image."""
        folder = samples[0].name.partition("/")[0] if samples else ""
        unused = [path for path in self.notes if path not in self.used and path.partition("/")[0] == folder]
        if unused:
            number, first = len(unused), shortened(unused[0])
            logger.warning("boxes of %d images that are not in %s/ are not used, the first: %s", number, folder, first)

    def _in_other_capitals(self, path: str) -> list[str]:
        found = self.without_capitals.get(path.casefold(), [])
        return found if len(found) == 1 else []


def patient_from_name(stem: str, *, is_kermany: bool) -> str | None:
    """Read the patient from a file name of a known form.

    Args:
        stem: file name without its suffix.
        is_kermany: True if the data set is that of Kermany et al., where ``IM-0115-0001`` contains the patient.

    Returns:
        The patient; None for a name of another form.
    """
    stem = COPY.sub("", stem)
    if match := NIH_NAME.fullmatch(stem):
        return str(int(match[1]))  # as the official table writes it
    match = PNEUMONIA_NAME.fullmatch(stem)
    if match:
        return match[1].lower()
    match = NORMAL_NAME.fullmatch(stem) if is_kermany else None
    return match[1].upper() if match else None


def find_tables(data_path: Path) -> list[Path]:
    """List the tables directly in a folder, sorted."""
    try:
        return sorted(path for path in data_path.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    except OSError:  # a folder without read permission can still have readable subfolders
        return []


def _is_of_boxes(path: Path) -> bool:
    """Tell a table of boxes; one that cannot be read is not, and `_read_tables` names the reason."""
    try:
        return is_boxes_table(path)
    except (OSError, InputError):
        return False


def _read_tables(tables: list[Path]) -> dict[str, Note]:
    """Read tables and merge the rows of each image; keys are image paths or file names."""
    notes: dict[str, Note] = {}
    for path in tables[:MAX_TABLES]:
        rows: list[tuple[str, Note]] = []
        try:
            if path.stat().st_size > MAX_TABLE_BYTES:
                raise InputError(f"{printable(path)}: larger than {MAX_TABLE_BYTES:,} bytes")
            for image_and_note in _read_table(path):
                rows.append(image_and_note)
        except (OSError, InputError) as error:  # warn only about tables of images: any other file may lie here, too
            logger.log(logging.WARNING if rows else logging.DEBUG, "%s; this table is not used", printable(error))
            continue
        for image, note in rows:
            known = notes.setdefault(image, note)
            for name in ("patient", "view", "sex", "age"):
                if getattr(known, name) is None:
                    setattr(known, name, getattr(note, name))
            known.findings = tuple(dict.fromkeys((*known.findings, *note.findings)))
    return notes


def _read_table(path: Path) -> Iterator[tuple[str, Note]]:
    """Read the rows of a table of images, as pairs of image and note; yield nothing for any other table.

    Raises:
        InputError: the table cannot be read, or a row is malformed.
    """
    columns: dict[str, str] = {}
    for _, row in read_rows(path):
        columns = columns or _find_columns(list(row))
        if not columns:
            return
        cells = dict.fromkeys(COLUMNS, "") | {key: row[column] for key, column in columns.items()}
        image = name_key(printable(with_slashes(cells["path"]).removeprefix("./")))
        label = LABEL_WORDS.get(cells["label"], cells["label"])
        note = Note(
            patient=id_of(cells["patient"]),
            view=view_of(cells["view"]),
            sex=sex_of(cells["sex"]),
            age=age_in_years(cells["age"]),
            findings=tuple(filter(known, (cells["findings"] or label).split("|"))),
        )
        if image:
            yield image, note


def _find_columns(header: list[str]) -> dict[str, str]:
    """Map the keys of `COLUMNS` to column names; empty unless the table has image paths and another known column."""
    squeezed = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(header)}
    columns = {key: squeezed[name] for key, names in COLUMNS.items() for name in reversed(names) if name in squeezed}
    return columns if "path" in columns and len(columns) > 1 else {}
