"""Options of a scoring: what was given, and what the checkpoint knows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salad.checkpoint import Checkpoint
from salad.config import OPTIONS, Config
from salad.config.declare import without_removed
from salad.errors import InputError

SCORED_BY = [one.name for one in OPTIONS.values() if one.section == "scoring" and one.facts.of_model]
NO_DATA = Path(os.devnull)  # DATA_PATH where none is known: no data set can be there


def reconcile(given: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """Join the values that were given with those that the checkpoint knows.

    Raises:
        InputError: the two contradict each other.
    """
    known = checkpoint.known()
    for name, value in known.items():
        if name in given and given[name] != value:
            flag, way_out = OPTIONS[name].flag, "type that" if name == "net_name" else "leave it out"
            raise InputError(f"{flag} is {given[name]}, but {checkpoint.path} was trained with {value}: {way_out}")
    trained_with = without_removed({**(checkpoint.config or {}), "normal_class": checkpoint.normal_class})
    same_data = trained_with.get("dataset_name") == given["dataset_name"]
    inherited = {
        one.name: one.from_json(trained_with[one.name])
        for one in OPTIONS.values()
        if one.facts.of_model
        and (one.section != "data" or same_data)  # what to take of another data set is its own matter
        and trained_with.get(one.name) is not None
    }
    return {**inherited, **given, **known}


def scoring_config(checkpoint: Checkpoint, given: Mapping[str, Any]) -> Config:
    """Make the options to score new images with, wherever they lie.

    Args:
        checkpoint: ours or a published one.
        given: values by option name; data_path is the data set of the training, which a published file does not name.

    Raises:
        InputError: an option contradicts the checkpoint, or a value is not allowed.
    """
    trained = checkpoint.config or {"dataset_name": "CXR_author", "data_path": NO_DATA}
    data = {name: trained[name] for name in ("dataset_name", "cache", "on_bad_image") if trained.get(name) is not None}
    paths = {"data_path": Path(given.get("data_path") or trained["data_path"]), "xp_path": Path()}
    return Config.of(reconcile({**given, **data, **paths}, checkpoint))
