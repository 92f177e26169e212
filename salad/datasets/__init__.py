"""The data sets, by name. Each is a function that lists the samples of a split."""

from pathlib import Path

from salad.datasets import folders
from salad.datasets.sample import Split, SplitReader
from salad.errors import InputError


def _read_phantom(data_path: Path, split: str, normal_class: str | None) -> Split | None:
    """`CXR_phantom`: drawn radiographs, written into DATA_PATH the first time it is empty."""
    from salad.datasets.phantom import write_phantom

    if not data_path.exists() or not any(entry.is_dir() for entry in data_path.iterdir()):
        write_phantom(data_path)
    return folders.read_split(data_path, split, normal_class)


DATASETS: dict[str, SplitReader] = {
    "CXR_author": folders.read_split,
    "CXR_phantom": _read_phantom,
}


def check_dataset(name: str) -> None:
    """Raise `InputError` where there is no data set of this name."""
    if name not in DATASETS:
        raise InputError(f"no data set is called '{name}': choose one of {', '.join(DATASETS)}")


def read_split(dataset_name: str, data_path: Path, split: str, *, normal_class: str | None = None) -> Split | None:
    """List the samples of a split of a data set.

    Args:
        dataset_name: one of `DATASETS`.
        data_path: where the data set lies.
        split: ``train``, ``val`` or ``test``.
        normal_class: name or index of the class that counts as normal; None for the data set's own choice.

    Returns:
        The split; None where a data set has no val split.

    Raises:
        InputError: the data set is unknown, or DATA_PATH does not hold it.
    """
    check_dataset(dataset_name)
    return DATASETS[dataset_name](data_path, split, normal_class)
