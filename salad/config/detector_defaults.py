"""The parameters of a `Detector`: which there are, their defaults, and what a recipe makes of them."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from typing import Any

from salad.config import Config
from salad.config.recipes import recipe_values
from salad.errors import InputError

OF_THE_PROGRAMS = {
    "dataset_name", "data_path", "normal_class", "split_dir", "view", "min_age", "part", "val_share", "train_on",
    "cache", "on_bad_image", "strict", "knn", "resume", "tensorboard", "mlflow", "heatmaps",
}  # fmt: skip
OF_A_MACHINE = {"device", "n_jobs_dataloader", "compile", "xp_path", "load_model", "overwrite", "keep"}
# The parameters of a detector and their defaults: options of both programs, but for those of their data and files.
DEFAULTS: dict[str, Any] = {
    "net_name": "unet",
    "xp_path": None,
    "val_share": 0.1,
    **{
        one.name: one.default
        for one in dataclasses.fields(Config)
        if one.name not in OF_THE_PROGRAMS and one.default is not dataclasses.MISSING
    },
}


def check_names(parameters: dict[str, Any]) -> None:
    """Raise `InputError` where there is no parameter of a name."""
    for name in parameters:
        if name not in DEFAULTS:
            close = difflib.get_close_matches(name, DEFAULTS, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InputError(f"Detector has no parameter '{name}'{hint}")


def with_recipe(parameters: dict[str, Any]) -> dict[str, Any]:
    """What was given, and what the recipe that was given sets beside it, but for data and files."""
    recipe = recipe_values(parameters.get("recipe"))
    return {**{name: value for name, value in recipe.items() if name in DEFAULTS}, **parameters}


def make_signature() -> inspect.Signature:
    """What help() and scikit-learn see of the constructor."""
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    own = [inspect.Parameter(name, kinds[1], default=default) for name, default in DEFAULTS.items()]
    return inspect.Signature([inspect.Parameter("self", kinds[0]), *own])
