"""List further normal images for --more_normals: those of other ages, views or hospitals, in folders and tables."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from salad.datasets.annotate import annotate
from salad.datasets.cells import known
from salad.datasets.layout import check_there
from salad.datasets.lists import inner_name
from salad.datasets.one_class import refuse_findings, refuse_names
from salad.datasets.table import SUFFIXES, make_sample, read_table, rows_of
from salad.datasets.tables import Row, shown
from salad.datasets.words import Sense, sense_of
from salad.errors import InputError, printable
from salad.images.listing import LeftOut, list_files
from salad.images.names import shortened
from salad.samples import NORMAL, Sample

logger = logging.getLogger(__name__)

FLAG = "--more_normals"
MORE = "more_normals"  # name of these images beside those of the splits


def kinds_of(paths: Sequence[Path]) -> dict[str, Path]:
    """Name each folder or table by the last two parts of its path, or by all of it where others have the same two.

    Args:
        paths: folders and tables; one that is given twice counts once.

    Returns:
        Path by name of its kind, in their order.
    """
    whole = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))  # noqa: PTH100  # links keep their names
    short = {path: printable(PurePath(*path.parts[-2:]).as_posix()) for path in whole}
    num_named = Counter(short.values())
    return {name if num_named[name] == 1 else printable(path.as_posix()): path for path, name in short.items()}


def read_more_normals(paths: Sequence[Path]) -> list[Sample]:
    """List the further normal images; each file once, whichever of the folders and tables name it.

    Args:
        paths: folders, of which every image below counts as normal, and tables, of which the normal rows of train do.

    Returns:
        Samples of the kinds of `kinds_of`, those of a kind together, all normal.

    Raises:
        InputError: a path is missing or holds no image, a folder holds one whose name says abnormal, tables in it name
            abnormal findings, or a table is invalid.
    """
    samples: dict[str, Sample] = {}
    for kind, path in kinds_of(paths).items():
        check_there(path, option=FLAG)
        try:
            listed = _in_folder(path) if path.is_dir() else _in_table(path)
        except OSError as error:
            where = printable(error.filename or path)
            raise InputError(f"{FLAG} {where}: cannot be listed ({error.strerror})") from None
        if not listed:
            raise InputError(f"{FLAG} {printable(path)}: holds no normal image: give another folder, or leave it out")
        for sample in listed:
            named = replace(sample, name=f"{kind}/{sample.name}", kind=kind)
            samples.setdefault(os.path.realpath(sample.path), named)
    return list(samples.values())


def describe_kinds(kinds: Mapping[str, int]) -> str:
    """Say how many normal images each kind gives to the memory, and which share they are.

    Args:
        kinds: number of images by name of the kind.
    """
    total = sum(kinds.values())
    return ", ".join(f"{number:,} of {kind} ({100 * number / total:.0f} %)" for kind, number in kinds.items())


def _in_folder(folder: Path) -> list[Sample]:
    """List the images below a folder, with what its tables and file names tell about them."""
    left_out = LeftOut()
    files = [Path(file) for file in list_files(folder, left_out=left_out)]
    left_out.say(folder, logger=logger)
    refuse_names(folder, files, label=NORMAL, option=FLAG, way_out="give the folder of its normal images instead")
    samples = annotate([Sample(file, inner_name(file, folder), NORMAL) for file in files], folder)
    refuse_findings(folder, samples, option=FLAG, way_out="give a folder or a table of normal images instead")
    return samples


def _in_table(table: Path) -> list[Sample]:
    """List the normal rows of a table; without a column label all rows count, with a column split those of train."""
    where = f"{FLAG} {printable(table)}"
    if table.suffix.lower() not in SUFFIXES:
        raise InputError(f"{where}: must be a folder of images or a table ({', '.join(SUFFIXES)})")
    rows = read_table(table, needed=("path",))
    rows = [(number, row if "label" in row else _labelled(row, f"{where}: line {number}")) for number, row in rows]
    rows = rows_of("train", rows, table=table, holds_all=any("split" in row for _, row in rows))
    normal = _normal_labels({row["label"] for _, row in rows}, table)
    samples = [make_sample(row, row["label"], table=table, number=n) for n, row in rows if row["label"] in normal]
    logger.debug("%s: %d of %d rows are normal ones of train", where, len(samples), len(rows))
    return samples


def _normal_labels(labels: set[str], table: Path) -> set[str]:
    """Choose the labels of images that are normal for certain: 0 of 0 and 1, else those that mean normal.

    Raises:
        InputError: there are labels, but none of them means normal.
    """
    chosen = {"0"} if {"0", "1"} >= labels else {label for label in labels if sense_of(label) is Sense.NORMAL}
    if labels and not chosen:
        raise InputError(f"{FLAG} {printable(table)}: none of its labels means normal ({shown(sorted(labels))})")
    return chosen


def _labelled(row: Row, where: str) -> Row:
    """Label a row without a label as normal, unless its finding says otherwise.

    Raises:
        InputError: it has a finding that does not mean normal.
    """
    finding = known(row.get("finding"))
    if finding and sense_of(finding) is not Sense.NORMAL:
        raise InputError(
            f"{where} has the finding {shortened(finding)}, but a table without a column label must list normal images "
            "only: add the column, or remove such rows"
        )
    return {**row, "label": "0"}
