"""Recipes: named sets of defaults for training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from salad.errors import InputError

_RELEASED = {
    "lr": 1e-4,
    "lr_milestone": (100,),
    "weight_decay": 1e-6,
    "batch_size": 32,
    "n_epochs": 50,
    "ans_select_rate": 0.1,
    "ans_size": 10,
    "npc_temperature": 0.1,
    "npc_momentum": 0.5,
    "w_rec": 0.5,
    "w_svdd": 0.5,
    "w_contrast": 1.0,
    "rec_loss": "l1",
    "augment": "flip",
    "train_on": "all",
    "score": "knn",
}
RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # the paper's text: several views of normal images, mean squared error, weighted prototypes
        "paper": {
            **_RELEASED,
            "rec_loss": "mse",
            "augment": "ssl",
            "n_views": 2,
            "train_on": "normal",
            "score": "weighted",
        },
        # the authors' program
        "released": _RELEASED,
        # the best settings found on validation images: patch features, trained with synthetic anomalies
        "strong": {
            "isize": 128,
            "crop": 0.8,
            "align": True,
            "normalize": "standardize",
            "augment": "flip",
            "val_share": 0.1,
            "w_syn": 1.0,
            "w_rec": 0.0,
            "w_svdd": 0.0,
            "w_contrast": 0.0,
            "lr": 2e-3,
            "lr_milestone": (8, 11),
            "batch_size": 64,
            "n_epochs": 12,
            "score": "fused",
            "local_grid": 4,
        },
        # no training: the patch memory of a frozen backbone, which sees the images as `strong` has them decoded
        "quick": {
            "isize": 128,
            "crop": 0.8,
            "align": True,
            "normalize": "standardize",
            "val_share": 0.1,
            "batch_size": 16,
            "n_epochs": 0,
            "score": "backbone",
            "backbone": "efficientnet_lite0",
            "local_grid": 4,
        },
    }
)


def recipe_values(name: str | None) -> dict[str, Any]:
    """Collect the values of a recipe by option name; none without a recipe.

    Raises:
        InputError: there is no such recipe.
    """
    if name is None:
        return {}
    if name not in RECIPES:
        raise InputError(f"--recipe is '{name}', but must be one of {', '.join(RECIPES)}")
    return dict(RECIPES[name])


def describe_recipe(name: str, values: Mapping[str, Any]) -> str:
    """Describe a recipe in one line: its options with their values in the run, and the replaced values of the recipe.

    Args:
        name: name of the recipe.
        values: options of the run, by name.
    """
    words = []
    for option, default in RECIPES[name].items():
        now = values[option]
        words.append(f"--{option} {shown_value(now)}" + (f" (not {shown_value(default)})" if now != default else ""))
    return f"recipe {name}: {', '.join(words)}"


def shown_value(value: Any) -> str:
    """Format a value as on the command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return (
        " ".join(map(shown_value, value)) if isinstance(value, tuple) else f"{value:g}" if value == 0.0 else str(value)
    )
