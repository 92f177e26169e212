"""Options of scoring: given options combined with those of the checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salad.checkpoint import Checkpoint
from salad.config import OPTIONS, Config
from salad.config.declare import without_removed
from salad.errors import InputError
from salad.networks.backbones import DOWNLOAD

SCORED_BY = [option.name for option in OPTIONS.values() if option.section == "scoring" and option.facts.of_model]
NO_DATA = Path(os.devnull)  # DATA_PATH if none is known; it holds no data set


def reconcile(given: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """Combine the given values with those of the checkpoint.

    Raises:
        InputError: a given value contradicts the checkpoint.
    """
    known = checkpoint.known()
    for name, value in known.items():
        if name in given and given[name] != value:
            flag, way_out = OPTIONS[name].flag, "type that" if name == "net_name" else "leave it out"
            raise InputError(f"{flag} is {given[name]}, but {checkpoint.path} was trained with {value}: {way_out}")
    trained_with = without_removed({**(checkpoint.config or {}), "normal_class": checkpoint.normal_class})
    same_data = trained_with.get("dataset_name") == given["dataset_name"]
    inherited = {
        option.name: option.from_json(trained_with[option.name])
        for option in OPTIONS.values()
        if option.facts.of_model
        and (option.section != "data" or same_data)  # another data set needs a selection of its own
        and trained_with.get(option.name) is not None
    }
    other = given.get("backbone", inherited.get("backbone")) != inherited.get("backbone")
    if other or inherited.get("backbone_weights") == DOWNLOAD:  # what was asked for once is not asked for again
        inherited.pop("backbone_weights", None)
    return {**inherited, **given, **known}


def scoring_config(checkpoint: Checkpoint, given: Mapping[str, Any]) -> Config:
    """Make the config to score new images with, outside of any data set.

    Args:
        checkpoint: checkpoint of this program or a published one.
        given: values by option name; data_path is the data set of the training, which a published file does not record.

    Raises:
        InputError: an option contradicts the checkpoint, or a value is not allowed.
    """
    trained = checkpoint.config or {"dataset_name": "CXR_author", "data_path": NO_DATA}
    data = {name: trained[name] for name in ("dataset_name", "cache", "on_bad_image") if trained.get(name) is not None}
    paths = {"data_path": Path(given.get("data_path") or trained["data_path"]), "xp_path": Path()}
    return Config.of(reconcile({**given, **data, **paths}, checkpoint))
