"""`NIH`: ChestX-ray14 as it is downloaded, one CSV file and its images in one folder or in several."""

from pathlib import Path

from salad.datasets.lists import find_members, is_old_enough, make_split, place_samples
from salad.datasets.tables import Row, age_in_years, read_rows, shown
from salad.errors import InputError, printable
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

NORMAL_CLASS = "No Finding"
CLASSES = (NORMAL_CLASS, "Finding")
NAME, FINDINGS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
AGE, SEX, VIEW = "Patient Age", "Patient Gender", "View Position"


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of one split.

    Which image belongs to which is said by lists in --split_dir (their labels, if they have any, go before
    those of the CSV file), else by train_val_list.txt and test_list.txt in DATA_PATH, which leave no val.

    Args:
        data_path: holds Data_Entry_2017*.csv and, at any depth, the images.
        split: ``train``, ``val`` or ``test``.
        selection: takes `split_dir`, `view` and `min_age`.

    Raises:
        InputError: the CSV file, a list or all images are missing.
        OSError: a folder cannot be listed.
    """
    entries = find_entries(data_path)
    members = find_members(data_path, split, split_dir=selection.split_dir)
    if members is None:
        return None
    rows = [row for _, row in read_rows(entries, needed=(NAME, FINDINGS, PATIENT, AGE, VIEW))]
    drafts = [
        _draft(row)
        for row in rows
        if selection.view in (None, row[VIEW]) and is_old_enough(row[AGE], selection.min_age)
    ]
    samples, absent = place_samples(drafts, known=(row[NAME] for row in rows), members=members, data_path=data_path)
    return make_split(samples, split=split, where=entries, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent)


def _draft(row: Row) -> Sample:
    findings = tuple(row[FINDINGS].split("|"))
    label = NORMAL if findings == (NORMAL_CLASS,) else ABNORMAL
    return Sample(
        Path(),
        row[NAME],
        label,
        patient=row[PATIENT],
        view=row[VIEW] or None,
        findings=findings,
        sex=row.get(SEX) or None,
        age=age_in_years(row[AGE]),
    )


def find_entries(data_path: Path) -> Path:
    """The CSV file of a download.

    Raises:
        InputError: there is none, or more than one.
    """
    found = sorted(data_path.glob("Data_Entry_2017*.csv"))
    if len(found) == 1:
        return found[0]
    what = f"several of them ({shown(path.name for path in found)}): leave one" if found else "none"
    raise InputError(f"{printable(data_path)}: must hold the Data_Entry_2017*.csv of ChestX-ray14, but holds {what}")
