"""Read `MedIAnomaly`: data sets of that benchmark with images/ and data.json, such as RSNA and VinCXR."""

from pathlib import Path

from salad.datasets.lists import index_images, inner_name, make_split
from salad.datasets.tables import read_text
from salad.errors import InputError, printable
from salad.input_files import parse_json
from salad.samples import Sample, Selection, Split

NORMAL_CLASS = "0"
CLASSES = (NORMAL_CLASS, "1")
FORM = '{"train": {"0": [...]}, "test": {"0": [...], "1": [...]}}'


def read_split(data_path: Path, split: str, selection: Selection) -> Split | None:
    """List the images of a split.

    Args:
        data_path: folder with images/ and data.json, which names the images of each split and label.
        split: ``train``, ``val`` (absent in the benchmark) or ``test``.
        selection: not used.

    Returns:
        The split; None if data.json has no val.

    Raises:
        InputError: data.json is missing or malformed, or all images are missing.
        OSError: images/ cannot be listed.
    """
    content, where = read_json(data_path / "data.json"), printable(data_path / "data.json")
    if split == "val" and "val" not in content:
        return None
    by_label = content.get(split)
    if not isinstance(by_label, dict) or not by_label.keys() <= {"0", "1"}:
        raise InputError(f"{where}: must have the form {FORM}, but its '{split}' has not")
    paths = index_images(data_path / "images")
    samples: dict[str, Sample] = {}
    absent: list[str] = []
    for label, names in by_label.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{where}: must have the form {FORM}, but '{label}' of '{split}' is no list of file names")
        for name in names:
            path = paths.get(name)
            if path is None:
                absent.append(name)
            elif samples.setdefault(name, Sample(path, inner_name(path, data_path), int(label))).label != int(label):
                raise InputError(f"{where}: gives {printable(name)[:80]} both labels in '{split}'")
    return make_split(
        list(samples.values()), split=split, where=data_path, classes=CLASSES, normal_class=NORMAL_CLASS, absent=absent
    )


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.

    Returns:
        The object.

    Raises:
        InputError: the file cannot be read, or holds no JSON object.
    """
    try:
        content = parse_json(read_text(path))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{printable(path)}: not a JSON file ({printable(error)[:200]})") from None
    if not isinstance(content, dict):
        raise InputError(f"{printable(path)}: holds no JSON object; it must have the form {FORM}")
    return content
