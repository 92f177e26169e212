"""Read `NIH`: ChestX-ray14 as downloaded, one CSV file and images in one or several folders."""

from pathlib import Path

from salad.datasets.cells import age_in_years, id_of, sex_of, view_of
from salad.datasets.layout import find_root
from salad.datasets.lists import AgeFilter, Members, find_members, make_split, place_samples
from salad.datasets.tables import Row, read_rows, shown
from salad.datasets.words import class_key
from salad.errors import InputError, printable
from salad.images.names import last_part
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

NORMAL_CLASS = "No Finding"
CLASSES = (NORMAL_CLASS, "Finding")
NAME, FINDINGS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
ENTRIES = "Data_Entry_2017*.csv"
AGE, SEX, VIEW = "Patient Age", "Patient Gender", "View Position"


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split.

    Lists in --split_dir define the splits; their labels take precedence over those of the CSV file. Without
    --split_dir, train_val_list.txt and test_list.txt in DATA_PATH define train and test; there is no val.

    Args:
        data_path: folder with the images and Data_Entry_2017*.csv, at any depth.
        split: ``train``, ``val`` or ``test``.
        selection: `split_dir`, `view` and `min_age` apply.

    Returns:
        The split; None if there is no val.

    Raises:
        InputError: the CSV file, a list or all images are missing.
        OSError: a folder cannot be listed.
    """
    root = find_root(data_path, lambda folder: any(folder.glob(ENTRIES)))
    entries = find_entries(root)
    members = find_members(root, split, split_dir=selection.split_dir)
    if members is None:
        return None
    rows = [row for _, row in read_rows(entries, needed=(NAME, FINDINGS, PATIENT, AGE, VIEW), optional=(SEX,))]
    ages = AgeFilter(selection.min_age)
    drafts = [
        _draft(row)
        for row in rows
        if selection.view in (None, view_of(row[VIEW])) and _is_member(row, members) and ages.keeps(row[AGE])
    ]
    ages.say(entries, split)
    samples, absent = place_samples(drafts, known=(row[NAME] for row in rows), members=members, data_path=data_path)
    return make_split(samples, split=split, where=entries, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent)


def _is_member(row: Row, members: Members) -> bool:
    return members.has(row[NAME], patient=id_of(row[PATIENT]) or row[NAME])


def _draft(row: Row) -> Sample:
    findings = tuple(finding.strip() for finding in row[FINDINGS].split("|"))
    is_normal = [class_key(finding) for finding in findings] == [class_key(NORMAL_CLASS)]
    return Sample(
        Path(),
        last_part(row[NAME]),
        NORMAL if is_normal else ABNORMAL,
        patient=id_of(row[PATIENT]),
        view=view_of(row[VIEW]),
        findings=findings,
        sex=sex_of(row.get(SEX)),
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
    paths = sorted(data_path.glob(ENTRIES))
    if len(paths) == 1:
        return paths[0]
    held = f"several of them ({shown(path.name for path in paths)}): leave one" if paths else "none"
    raise InputError(f"{printable(data_path)}: must hold the Data_Entry_2017*.csv of ChestX-ray14, but holds {held}")
