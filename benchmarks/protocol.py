"""Data sets and scorings of `benchmarks.quality`: normal images left out, other data sets, enrolment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
import numpy as np

from benchmarks.jitter import FOLDERS, write_jittered
from salad.datasets import read_split
from salad.datasets.tables import read_rows
from salad.errors import InputError
from salad.runs.folder import MODEL_FILE, RESULT_FILE
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split
from salad.study.folds import write_table
from salad.study.jobs import Call

JITTERED, TABLE = "jittered", "table.csv"
QUIET = ("--no_report", "--overwrite")  # options of test
SEED = 0  # of the choice of images to enrol, and of bootstraps: the same for all runs


@dataclass(frozen=True, kw_only=True)
class Data:
    """Data set: name in the table, DATASET_NAME and DATA_PATH."""

    name: str
    dataset_name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Data:
        """Parse ``NAME=DATASET_NAME:PATH``.

        Raises:
            click.BadParameter: the text has another form.
        """
        name, _, rest = text.partition("=")
        dataset_name, _, path = rest.partition(":")
        if not (name and dataset_name and path):
            raise click.BadParameter(f"--data is '{text}', but must be NAME=DATASET_NAME:PATH")
        return cls(name=name, dataset_name=dataset_name, path=Path(path))

    def read(self, split: str, *, normal_class: str | None = None) -> list[Sample]:
        """List the images of a split; none without val.

        Raises:
            InputError: they cannot be listed.
        """
        found = self._read(split, normal_class=normal_class)
        return found.samples if found else []

    def _read(self, split: str, *, normal_class: str | None = None) -> Split | None:
        return read_split(self.dataset_name, self.path, split, selection=Selection(normal_class=normal_class))

    @cached_property
    def test(self) -> Split:
        """Test images, of which all may be abnormal."""
        try:
            test = self._read("test")
        except InputError:
            test = self._read("test", normal_class=FOLDERS[NORMAL])
        assert test is not None, "only val may be absent"
        return test


@dataclass(frozen=True, kw_only=True)
class Group:
    """Group of normal images that are left out of the training, and are the test normals instead.

    Attributes:
        name: in the table.
        source: data set that has them.
        file: CSV file with the columns path, inside DATA_PATH, and `column`.
        column: 1 for the images of the group.
    """

    name: str
    source: Data
    file: Path
    column: str

    @classmethod
    def parse(cls, text: str, sources: Iterable[Data]) -> Group:
        """Parse ``NAME=DATA:FILE:COLUMN``.

        Args:
            text: to parse; FILE is absolute, or lies in DATA_PATH.
            sources: data sets, one of which is called DATA.

        Raises:
            click.BadParameter: the text has another form, or no data set is called DATA.
        """
        name, _, rest = text.partition("=")
        data, _, rest = rest.partition(":")
        file, _, column = rest.rpartition(":")
        if not (name and data and file and column):
            raise click.BadParameter(f"--leave_out is '{text}', but must be NAME=DATA:FILE:COLUMN")
        source = next((source for source in sources if source.name == data), None)
        if source is None:
            raise click.BadParameter(f"--leave_out is '{text}', but no --data is called {data}")
        return cls(name=name, source=source, file=source.path / file, column=column)

    def write(self, folder: Path) -> Data:
        """Write the table of a data set that is trained without the group, and tested with it.

        Other images of the patients of the group are left out of train and val, too.

        Raises:
            InputError: the file does not name normal images of the data set, or the folder holds another table.
        """
        samples = {split: self.source.read(split) for split in ("train", "val", "test")}
        every = [sample for of_split in samples.values() for sample in of_split]
        rows = read_rows(self.file, needed=("path", self.column))
        names = {row["path"] for _, row in rows if row[self.column] == "1"}
        if not names:
            raise InputError(f"{self.file}: no image has 1 in {self.column}")
        if strange := names - {sample.name for sample in every if sample.label == NORMAL}:
            raise InputError(f"{self.file}: {min(strange)} is no normal image of {self.source.path}")
        group = [sample for sample in every if sample.name in names]
        patients = {sample.patient for sample in group if sample.patient}
        kept = {
            split: [sample for sample in samples[split] if sample.name not in names and sample.patient not in patients]
            for split in ("train", "val")
        }
        abnormal = [sample for sample in samples["test"] if sample.label == ABNORMAL]
        table = write_table(folder / TABLE, {**kept, "test": [*group, *abnormal]})
        return Data(name=self.name, dataset_name="Table", path=table)


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Scoring of test images with the models of all runs on a data set.

    Attributes:
        folder: in the folder of a run.
        data: data set whose test images are scored.
        title: name of the data in the table; empty for none.
        enrolled: normal images that are enrolled before.
    """

    folder: str
    data: Data
    title: str = ""
    enrolled: Sequence[Path] = ()

    def is_done(self, run: Path) -> bool:
        """Return True if the model of the run in this folder was scored."""
        return (run / self.folder / RESULT_FILE).exists()

    def do(self, call: Call, run: Path, *, net_name: str, log: Path) -> bool:
        """Score with the model of a run; return True on success."""
        folder, model = run / self.folder, run / MODEL_FILE
        folder.mkdir(parents=True, exist_ok=True)
        if self.enrolled:
            words = ["enrol", str(model), *map(str, self.enrolled), "--out", str(folder / MODEL_FILE), "--overwrite"]
            if not call(words, log):
                return False
            model = folder / MODEL_FILE
        place = [self.data.dataset_name, net_name, str(folder), str(self.data.path), "--load_model", str(model)]
        return call(["test", *place, "--normal_class", self.data.test.normal_class, "--seed", str(SEED), *QUIET], log)


def jitter_scoring(data: Data, folder: Path) -> Scoring:
    """Write jittered copies of the test images, and make their scoring."""
    write_jittered(data.test, folder / JITTERED)
    return Scoring(folder=JITTERED, data=Data(name=JITTERED, dataset_name="CXR_author", path=folder / JITTERED))


def across_scorings(data: Data, others: Iterable[Data]) -> list[Scoring]:
    """Make the scorings of the test images of other data sets."""
    return [
        Scoring(folder=f"on_{other.name}", data=other, title=f"{data.name}, scored on {other.name}")
        for other in others
        if other.name != data.name
    ]


def enrol_scorings(data: Data, counts: Sequence[int], folder: Path) -> list[Scoring]:
    """Choose test normals to enrol, and make the scorings of the other test images without and with them.

    All counts are tested with the same images, and a larger number holds the images of a smaller one. Test normals of
    enrolled patients are left out.

    Args:
        data: data set.
        counts: numbers of images to enrol.
        folder: of the data set, to write the table of the other test images to.

    Raises:
        InputError: there are too few test normals.
    """
    normal = [sample for sample in data.test.samples if sample.label == NORMAL]
    abnormal = [sample for sample in data.test.samples if sample.label == ABNORMAL]
    most = max(counts)
    drawn = [normal[i] for i in np.random.default_rng(SEED).permutation(len(normal))]
    patients = {sample.patient for sample in drawn[:most] if sample.patient}
    left = [sample for sample in drawn[most:] if sample.patient not in patients]
    if not left:
        raise InputError(
            f"--enrol is {most}, but {data.name} has {len(normal)} test normals: some must be left to test"
        )
    table = write_table(folder / f"enrolled_{most}" / TABLE, {"test": [*left, *abnormal]})
    rest = Data(name=data.name, dataset_name="Table", path=table)
    return [
        Scoring(
            folder=f"enrolled_{most}/{count}",
            data=rest,
            title=f"{data.name}, {count} enrolled",
            enrolled=[sample.path for sample in drawn[:count]],
        )
        for count in sorted({0, *counts})
    ]
