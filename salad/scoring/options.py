"""Options of a scoring: what was given, and what the checkpoint knows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.config.declare import value_from_json
from salad.config.scoring import SCORED_BY
from salad.errors import InputError
from salad.samples import Selection

if TYPE_CHECKING:
    pass


def reconcile(given: dict[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """Values for scoring: what was given, and what the checkpoint knows.

    Raises:
        InputError: the two contradict each other.
    """
    known = checkpoint.known()
    for name, value in known.items():
        if name in given and given[name] != value:
            flag, way_out = ("NET_NAME", "type that") if name == "net_name" else (f"--{name}", "leave it out")
            raise InputError(f"{flag} is {given[name]}, but {checkpoint.path} was trained with {value}: {way_out}")
    trained_with = {**(checkpoint.config or {}), "normal_class": checkpoint.normal_class}
    names = ["rec_loss", *SCORED_BY]
    if trained_with.get("dataset_name") == given["dataset_name"]:  # what to take of another one is its own matter
        names += [one.name for one in dataclasses.fields(Selection)]
    inherited = {
        name: value_from_json(Config, name, trained_with[name]) for name in names if trained_with.get(name) is not None
    }
    return {**inherited, **given, **known}


def scoring_config(checkpoint: Checkpoint, given: dict[str, Any]) -> Config:
    """The options to score new images with: what was given, and what the checkpoint knows.

    Raises:
        InputError: the two contradict each other, or a value is not allowed.
    """
    trained = checkpoint.config or {"dataset_name": "CXR_author", "data_path": ""}
    data = {name: trained[name] for name in ("dataset_name", "cache", "on_bad_image") if trained.get(name) is not None}
    paths = {"data_path": Path(trained["data_path"]), "xp_path": Path()}
    return Config(**reconcile({**given, **data, **paths}, checkpoint))
