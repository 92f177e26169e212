"""Options of the program, declared once: default, unit, bounds, help, and the commands that take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad.config.data import DataOptions
from salad.config.declare import Option, options_of, suggestion, without_removed
from salad.config.images import ImageOptions
from salad.config.parts import used_parts
from salad.config.recipes import RECIPES, recipe_values, shown_value
from salad.config.run import OutputOptions, RunOptions
from salad.config.scoring import ScoringOptions
from salad.config.training import LossOptions, LossSettings, MemoryOptions, NetworkOptions, OptimisationOptions
from salad.errors import InputError
from salad.losses import LOSSES
from salad.networks import check_isize, network_spec

MAX_DECODED = 8192  # pixels along a side; the same bound as for image files
SECTIONS: dict[str, type] = {
    "data": DataOptions,
    "images": ImageOptions,
    "network": NetworkOptions,
    "loss": LossOptions,
    "memory": MemoryOptions,
    "optimisation": OptimisationOptions,
    "scoring": ScoringOptions,
    "output": OutputOptions,
    "run": RunOptions,
}
OPTIONS: dict[str, Option] = {option.name: option for name, cls in SECTIONS.items() for option in options_of(name, cls)}
ARGUMENTS = ("dataset_name", "net_name", "xp_path", "data_path")  # in the order of the command line


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of one run, by section; None stands for a default that depends on other options."""

    data: DataOptions
    images: ImageOptions
    network: NetworkOptions
    loss: LossSettings
    memory: MemoryOptions
    optimisation: OptimisationOptions
    scoring: ScoringOptions
    output: OutputOptions
    run: RunOptions

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Config:
        """Make a config from values by option name; options without a value get their default.

        Raises:
            InputError: a name is unknown, or a value is not allowed.
        """
        for name, value in values.items():
            if name not in OPTIONS:
                raise InputError(f"no option is called '{name}'{suggestion(name, OPTIONS)}")
            OPTIONS[name].check(value)
        missing = [option.flag for option in OPTIONS.values() if option.facts.is_argument and option.name not in values]
        if missing:
            raise InputError(f"{', '.join(missing)} is missing")
        by_section: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for name, value in values.items():
            by_section[OPTIONS[name].section][name] = value
        return cls(**{name: section(**by_section[name]) for name, section in SECTIONS.items()})

    def __post_init__(self) -> None:
        network, images, loss = self.network, self.images, self.loss
        spec = network_spec(network.net_name)
        if images.isize is None:
            images = dataclasses.replace(images, isize=spec.default_isize)
            object.__setattr__(self, "images", images)
        check_isize(network.net_name, images.size)
        if images.decoded_size > MAX_DECODED:
            raise InputError(
                f"--crop is {images.crop:g}: images would be decoded to {images.decoded_size:,} pixels a side, above "
                f"{MAX_DECODED:,}; choose a larger share"
            )
        if not self.trains:
            self._check_untrained()
        elif not any(loss.weights.values()):
            *others, last = (OPTIONS[spec.weight].flag for spec in LOSSES.values())
            raise InputError(f"{', '.join(others)} and {last} are all 0: there is nothing to train")
        if self.optimisation.pre_training_epochs and loss.weights["rec"] == 0:
            raise InputError("--pre_training_epochs trains the reconstruction, but --w_rec is 0")

    def _check_untrained(self) -> None:
        """Raise `InputError` if a run without training has an option that needs one."""
        if uses := [part for part in self.scoring.parts if used_parts([part])]:
            raise InputError(
                f"--n_epochs is 0, so no network is trained, but --score {uses[0]} needs one: choose --score backbone "
                "and a --backbone, or train for some epochs"
            )
        if self.optimisation.pre_training_epochs:
            raise InputError("--n_epochs is 0, so nothing follows the --pre_training_epochs: leave them out")

    @property
    def trains(self) -> bool:
        """True if a network is trained; False if the run makes the memory of a frozen backbone only."""
        return self.optimisation.n_epochs > 0

    @property
    def num_rounds(self) -> int:
        """Number of rounds after round 0: int(1 / ans_select_rate), or 0 without the aggregation loss."""
        aggregates = self.trains and self.loss.weights["aggregation"] > 0
        return int(1 / self.memory.ans_select_rate) if aggregates else 0

    def values(self) -> dict[str, Any]:
        """Collect the value of every option, by name."""
        return {name: getattr(getattr(self, option.section), name) for name, option in OPTIONS.items()}

    def changed(self, **values: Any) -> Config:
        """Copy the config, with new values for some options.

        Raises:
            InputError: a name is unknown, or a value is not allowed.
        """
        return Config.of({**self.values(), **values})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Config:
        """Make a config from the output of `as_json`, of this version or an older one."""
        known = without_removed(values)
        return cls.of(
            {name: OPTIONS[name].from_json(value) if name in OPTIONS else value for name, value in known.items()}
        )

    def as_json(self) -> dict[str, Any]:
        """Convert the values to a plain dict for JSON, which `read_values` reads back."""
        values = self.values()
        del values["overwrite"], values["resume"]  # loading a config must not delete or resume a run
        return {name: _plain(value) for name, value in values.items()}


def describe_changes(values: Mapping[str, Any]) -> str:
    """Describe the recipe of a model and the options that shape it and differ from recipe and defaults, in one line.

    Args:
        values: options of the training by name, as a checkpoint holds them; unknown names are left out.
    """
    recipe = values.get("recipe") if values.get("recipe") in RECIPES else None
    usual = {"isize": network_spec(str(values["net_name"])).default_isize, **recipe_values(recipe)}
    words = [f"recipe {recipe}"] if recipe else []
    for name, declared in OPTIONS.items():
        value = declared.from_json(values.get(name))
        shapes = declared.section not in ("output", "run") and not declared.facts.is_argument
        shapes = shapes and declared.kind is not Path and (name == "n_epochs" or not declared.facts.may_change)
        if shapes and name in values and value != usual.get(name, declared.default):
            words.append(f"--{name} {shown_value(value)}")
    return ", ".join(words) or "none"


def _plain(value: Any) -> Any:
    """Convert paths, which JSON lacks, to text."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return str(value) if isinstance(value, Path) else value
