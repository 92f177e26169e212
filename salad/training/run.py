"""A training run from its options to its last checkpoint: started, or resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shlex
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from salad.build import check_same_for_all
from salad.checkpoint import Checkpoint, load_checkpoint
from salad.config import Config
from salad.config.recipes import describe_recipe
from salad.device import choose_device, draw_seed, keep_freed_memory, seed_everything
from salad.distributed.team import SOLO, Team
from salad.errors import InputError
from salad.images.scan import write_skipped
from salad.networks.backbones import check_backbone
from salad.runs.folder import RunFolder
from salad.runs.followers import check_packages, following
from salad.runs.sealed import remove_leftovers
from salad.samples import Split
from salad.training.data import check_enough, read_training_data
from salad.training.signals import Interrupts
from salad.training.state import fingerprints, restore, save
from salad.training.template import find_mean_image
from salad.training.trainer import Trainer

logger = logging.getLogger(__name__)


def run_training(given: dict[str, Any], folder: RunFolder, *, team: Team = SOLO) -> None:
    """Train on the images of train/ and write everything into the run folder; test/ is never looked at.

    Args:
        given: the options that were given, by name; the others have their defaults or, in a resumed run, the
            values that the run has.
        folder: where to write, locked; a run that it holds is replaced, if that was asked for, once everything
            has been checked.
        team: the processes that train together.

    Raises:
        InputError: the data or an option is at fault, or contradicts the run to go on with.
        DivergedError: a loss was not finite; the checkpoints so far stay.
        RunInterruptedError: a signal asked for an end; the state is saved.
        StorageError: a file could not be written.
    """
    config, stopped = settle(given, folder)
    device = choose_device(config.device, team=team)
    if config.sync_bn and team.size > 1 and device.type == "cpu":
        raise InputError(f"--sync_bn works on GPUs alone, but {team.size} processes share the CPU: leave it out")
    check_enough(config.batch_size, "--batch_size is", team)
    team.connect(device)
    seed = config.seed
    config = dataclasses.replace(config, seed=team.from_first(lambda: draw_seed(seed)))
    if config.recipe and team.is_first:
        logger.info(describe_recipe(config.recipe, vars(config)))
    seed_everything(config.seed, deterministic=config.deterministic)
    if device.type == "cpu":
        keep_freed_memory()
    train, val = read_images(config, stopped, team=team)
    start = stopped or (load_checkpoint(config.load_model) if config.load_model else None)
    with Interrupts() as interrupts:
        trainer = Trainer(
            config,
            folder,
            train=train,
            val=val,
            device=device,
            start=start,
            mean_image=stopped.mean_image if stopped else find_mean_image(config, train, device, team=team),
            interrupts=interrupts,
            team=team,
        )
        start_run(trainer, stopped)
        with logging_redirect_tqdm([logging.getLogger("salad")]), following(config, folder):
            trainer.run()


def settle(given: dict[str, Any], folder: RunFolder) -> tuple[Config, Checkpoint | None]:
    """The options of a run, and the state that it goes on from, if any; before anything is read or written.

    Raises:
        InputError: an option is at fault or contradicts the run to go on with, or a package is missing.
    """
    config = Config(**given)
    stopped = find_stopped_run(config, folder)
    if stopped is not None:
        config = resume_config(given, stopped)
    check_packages(config)
    check_backbone(config.backbone if "backbone" in config.parts else None)
    return config, stopped


def read_images(config: Config, stopped: Checkpoint | None, *, team: Team) -> tuple[Split, Split | None]:
    """Train and val: enough of them, the same ones in all processes, and those that a stopped run had.

    Raises:
        InputError: they are not.
    """
    with team.first_alone("images"):
        train, val = read_training_data(config)
    check_enough(len(train.samples), "the images to train on are", team)
    for split in [train, val] if val else [train]:
        check_same_for_all(split, team)
    if stopped is not None:
        check_same_images(train, val, stopped)
    return train, val


def start_run(trainer: Trainer, stopped: Checkpoint | None) -> None:
    """Before the first step: the state of a stopped run, and what a folder holds from its start."""
    config, team = trainer.config, trainer.team
    if not team.is_first:  # the weights and the memory are those of all, what is drawn from here on is its own
        seed_everything(config.seed + team.rank, deterministic=config.deterministic)
    if stopped is not None:
        restore(trainer, stopped)
        logger.info("resumed after %d epochs", trainer.epochs_done)
    if team.is_first:
        write_start(trainer, resumed=stopped is not None)
    if stopped is None:
        save(trainer, [trainer.folder.last])


def write_start(trainer: Trainer, *, resumed: bool) -> None:
    """Make the folder ready for a new run, or for a resumed one, and write what is known before its first epoch."""
    folder, train, val = trainer.folder, trainer.train_split, trainer.val_split
    remove_leftovers(folder.path)
    if resumed:
        folder.cut_metrics(trainer.epochs_done)
    else:
        folder.clear()
    write_skipped(folder.path, train.skipped, scanned=("train", "val", "test"))
    folder.write_config(
        trainer.config.as_json(),
        device=str(trainer.device),
        num_processes=trainer.team.size,
        weights_loaded=trainer.network.weights_loaded,
        normal_class=train.normal_class,
        num_train=len(train.samples),
        num_val=len(val.samples) if val else 0,
        num_skipped=len(train.skipped),
    )


def find_stopped_run(config: Config, folder: RunFolder) -> Checkpoint | None:
    """The state to go on from, or None for a new run.

    Raises:
        InputError: there is a run but --resume is not given, or the other way round.
    """
    if config.resume is None:
        if not config.overwrite:
            folder.check_free()
        return None
    if folder.last.exists():
        try:
            return load_checkpoint(folder.last)
        except InputError as error:
            raise InputError(f"{error}; {way_out(folder)}") from None
    if config.resume == "must" or folder.checkpoints():
        raise InputError(f"{folder.path}: holds no run to --resume ({folder.last.name} is missing); {way_out(folder)}")
    return None


def way_out(folder: RunFolder) -> str:
    """What to do where the state to go on from is lost: the end of a round is such a state, too."""
    for path in reversed(folder.round_models()):
        with contextlib.suppress(InputError):
            load_checkpoint(path)
            return f"to go on from the end of a round:  {shlex.join(['cp', str(path), str(folder.last)])}"
    return "--overwrite starts anew" if folder.held_files() else "leave --resume out to start one"


def resume_config(given: dict[str, Any], stopped: Checkpoint) -> Config:
    """The options of the stopped run, with those that may change as given now.

    Raises:
        InputError: an option that was given contradicts the run.
    """
    if stopped.config is None:
        raise InputError(f"{stopped.path}: holds no options; it is no run of this program")
    had = Config.from_json(stopped.config)
    for declared in dataclasses.fields(Config):
        name = declared.name
        now, before = given.get(name), getattr(had, name)
        if name not in given or now == before or (name == "seed" and now == -1):
            continue
        if name == "n_epochs" and now < before:
            raise InputError(
                f"--n_epochs is {now}, but the run in {stopped.path.parent} has {before}: it may only grow"
            )
        if not declared.metadata["may_change"]:
            flag = f"--{name}" if declared.default is not dataclasses.MISSING else name.upper()
            raise InputError(f"{flag} is {now}, but the run in {stopped.path.parent} has {before}: leave it as it was")
    new = {name: value for name, value in given.items() if name != "seed"}
    return dataclasses.replace(had, **new)


def check_same_images(train: Split, val: Split | None, stopped: Checkpoint) -> None:
    """Raise `InputError` where DATA_PATH holds other images than the run had; older files do not tell those of val/."""
    had, now = stopped.training, fingerprints(train, val)
    for name, verb in (("images", "trains on"), ("val_images", "validates on")):
        if name in had and had[name] != now[name]:
            raise InputError(
                f"the run in {stopped.path.parent} {verb} {had[name]}, but DATA_PATH holds {now[name]}: "
                "resume with the same images, or start a new run"
            )
