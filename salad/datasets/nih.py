"""Read `NIH`: ChestX-ray14 as downloaded, one CSV file and images in one or several folders."""

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
    """List the images of a split.

    Lists in --split_dir define the splits; their labels take precedence over those of the CSV file. Without
    --split_dir, train_val_list.txt and test_list.txt in DATA_PATH define train and test; there is no val.

    Args:
        data_path: folder with Data_Entry_2017*.csv and, at any depth, the images.
        split: ``train``, ``val`` or ``test``.
        selection: `split_dir`, `view` and `min_age` apply.

    Returns:
        The split; None if there is no val.

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
    """Find the CSV file of a download.

    Args:
        data_path: folder of the data set.

    Returns:
        Path of the CSV file.

    Raises:
        InputError: there is no such file, or more than one.
    """
    paths = sorted(data_path.glob("Data_Entry_2017*.csv"))
    if len(paths) == 1:
        return paths[0]
    held = f"several of them ({shown(path.name for path in paths)}): leave one" if paths else "none"
    raise InputError(f"{printable(data_path)}: must hold the Data_Entry_2017*.csv of ChestX-ray14, but holds {held}")
