"""Keep the results of an earlier test: those of another model or data set are not replaced."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from salad.checkpoint import Checkpoint
from salad.config import OPTIONS, Config
from salad.errors import InputError, printable
from salad.images.names import shortened
from salad.input_files import open_input, parse_json, read_input
from salad.runs.folder import RESULT_FILE, results_in
from salad.samples import Split
from salad.scores import SCORES

logger = logging.getLogger(__name__)

MADE_FROM, HEATMAPS = "made_from", "heatmap_folder"  # entries of metrics.json
SCORED_WITH = ("isize", "resize", "normalize", "trim", "crop", "align", "score", "k", "specificity", "min_normals")
KEPT = {"model", "data_set"}  # entries of `made_from`: results with another value are not replaced
SAMPLED_BYTES = 4096  # from the middle of each image file
MAX_SHOWN = 60  # characters of a value in a message


def made_from(config: Config, checkpoint: Checkpoint, split: Split) -> dict[str, Any]:
    """Describe what results are made from, for metrics.json.

    Args:
        config: options of the test.
        checkpoint: checkpoint to score with.
        split: test images, as listed.
    """
    data = config.data
    return {
        "data_set": f"{data.dataset_name} {printable(data.data_path.resolve())}",
        "images": split.fingerprint,
        "contents": _contents(split),
        **scored_with(config, checkpoint),
    }


def scored_with(config: Config, checkpoint: Checkpoint) -> dict[str, Any]:
    """Describe the model and the options that scores, percentiles and flags depend on, in plain values of JSON."""
    values, parts = config.values(), config.scoring.parts
    settings = {name for part in parts for name in SCORES[part].settings}
    options = {name: values[name] for name in [*SCORED_WITH, *sorted(settings)]}
    fuse = [*parts] if config.scoring.is_fused else None
    return {"model": checkpoint.digest(), **options, "fuse": fuse}


def _contents(split: Split) -> str:
    """Compute a digest of the sizes and some bytes of the files of a split, which tells images of the same names."""
    digest = hashlib.sha256()
    for path in dict.fromkeys(sample.path for sample in split.samples):
        try:
            with open_input(path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - SAMPLED_BYTES) // 2)
                digest.update(f"{size} ".encode() + file.read(SAMPLED_BYTES))
        except OSError:  # named by the scan
            digest.update(b"unread ")
    return f"digest {digest.hexdigest()[:12]}"


def replaces_others(folder: Path, now: dict[str, Any], *, heatmaps: Path | None = None) -> bool:
    """Check the results of an earlier test in a folder, which a test will replace, and warn of what differs.

    Args:
        folder: folder for the results.
        now: description of the new results, see `made_from`.
        heatmaps: folder for heatmaps, which may hold those of the same results.

    Returns:
        True if the folder holds other results of the same model and data set.

    Raises:
        InputError: the results are of another model or data set, or do not say what they are of.
    """
    names = [file.name for file in results_in(folder)]
    saved = _read(folder / RESULT_FILE)
    before = saved.get(MADE_FROM)
    way_out = "--out FOLDER writes the new ones elsewhere, --overwrite replaces the old ones"
    if names and not isinstance(before, dict):
        raise InputError(f"{printable(folder)}: holds results ({names[0]}) that do not say what they are of; {way_out}")
    differences = _differences(before or {}, now) if names else {}
    if "data_set" in differences and not differences.keys() & {"images", "contents"}:
        del differences["data_set"]  # the same images at another place
    if "images" in differences:
        differences.pop("contents", None)  # follows from it
    if kept := "; ".join(text for name, text in differences.items() if name in KEPT):
        raise InputError(f"{printable(folder)}: holds results of another test: {kept}; {way_out}")
    is_same = bool(names) and saved.get(HEATMAPS) == shown_folder(heatmaps)
    if heatmaps is not None and not is_same and heatmaps.is_dir() and any(heatmaps.iterdir()):
        raise InputError(
            f"--heatmaps {printable(heatmaps)}: holds files already; give an empty folder, or --overwrite to add to it"
        )
    if differences:
        logger.warning("%s: the results of an earlier test are replaced: %s", folder, "; ".join(differences.values()))
    return bool(differences)


def shown_folder(folder: Path | None) -> str | None:
    """Name a folder for metrics.json."""
    return None if folder is None else printable(folder.resolve())


def _differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Describe each entry that differs, by name."""
    found = {}
    for name, value in now.items():
        old = before.get(name)
        if old != value:
            flag = OPTIONS[name].flag if name in OPTIONS else f"the {name.replace('_', ' ')}"
            verb = "were" if name in ("images", "contents") else "was"
            found[name] = f"{flag} {verb} {_shown(old)}, now {_shown(value)}"
    return found


def _shown(value: object) -> str:
    if value is None:
        return "the default"
    return shortened(" and ".join(map(str, value)) if isinstance(value, list) else value, MAX_SHOWN)


def _read(path: Path) -> dict[str, Any]:
    """Read a metrics.json; empty where there is none, or a damaged one."""
    try:
        values = parse_json(read_input(path))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
