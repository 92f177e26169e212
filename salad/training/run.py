"""A training run from its options to its last checkpoint: started, or resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shlex
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from salad.build import RunContext, open_context
from salad.checkpoint import Checkpoint, load_checkpoint
from salad.config import OPTIONS, Config
from salad.config.recipes import describe_recipe
from salad.device import seed_everything
from salad.distributed.team import SOLO, Team
from salad.errors import InputError
from salad.images.scan import write_skipped
from salad.networks.backbones import check_backbone
from salad.runs.folder import RunFolder
from salad.runs.followers import check_packages, following
from salad.runs.sealed import remove_leftovers
from salad.samples import Split
from salad.scores import SCORES
from salad.training.data import check_enough, read_training_data
from salad.training.signals import Interrupts
from salad.training.state import fingerprints
from salad.training.template import make_template
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
    check_enough(config.data.batch_size, "--batch_size is", team)
    context = open_context(config, team=team)
    config = context.config
    if config.run.recipe and team.is_first:
        logger.info(describe_recipe(config.run.recipe, config.values()))
    train, val = read_images(context, stopped)
    template = stopped.template if stopped else make_template(context, train)
    start = stopped or (load_checkpoint(config.network.load_model) if config.network.load_model else None)
    context, interrupts = dataclasses.replace(context, template=template), Interrupts()
    trainer = Trainer(context, folder, train=train, val=val, start=start, interrupts=interrupts)
    with interrupts:  # not before: until now there is nothing to save
        start_run(trainer, stopped)
        output = config.output
        following_run = following(
            folder, tensorboard=output.tensorboard, mlflow=output.mlflow, options=config.as_json()
        )
        with logging_redirect_tqdm([logging.getLogger("salad")]), following_run:
            trainer.run()


def settle(given: dict[str, Any], folder: RunFolder) -> tuple[Config, Checkpoint | None]:
    """The options of a run, and the state that it goes on from, if any; before anything is read or written.

    Raises:
        InputError: an option is at fault or contradicts the run to go on with, or a package is missing.
    """
    config = Config.of(given)
    stopped = find_stopped_run(config, folder)
    if stopped is not None:
        config = resume_config(given, stopped)
    check_packages(tensorboard=config.output.tensorboard, mlflow=config.output.mlflow)
    uses_backbone = any(SCORES[part].uses_backbone for part in config.scoring.parts)
    check_backbone(config.scoring.backbone if uses_backbone else None)
    return config, stopped


def read_images(context: RunContext, stopped: Checkpoint | None) -> tuple[Split, Split | None]:
    """Read train and val, and check that they are enough, the same in all processes, and those of a stopped run.

    Raises:
        InputError: they are not.
    """
    with context.team.first_alone("images"):
        train, val = read_training_data(context)
    check_enough(len(train.samples), "the images to train on are", context.team)
    for split in [train, val] if val else [train]:
        context.check_same_for_all(split)
    if stopped is not None:
        check_same_images(train, val, stopped)
    return train, val


def start_run(trainer: Trainer, stopped: Checkpoint | None) -> None:
    """Before the first step, take over the state of a stopped run and write what a folder holds from its start."""
    run, team = trainer.config.run, trainer.context.team
    if not team.is_first:  # the weights and the memory are those of all, what is drawn from here on is its own
        seed_everything(run.seed + team.rank, deterministic=run.deterministic)
    if stopped is not None:
        trainer.state.load_state_dict(stopped)
        logger.info("resumed after %d epochs", trainer.state.epochs_done)
    if team.is_first:
        write_start(trainer, resumed=stopped is not None)
    if stopped is None:
        trainer.save([trainer.folder.last])


def write_start(trainer: Trainer, *, resumed: bool) -> None:
    """Make the folder ready for a new run, or for a resumed one, and write what is known before its first epoch."""
    folder, train, val = trainer.folder, trainer.train_split, trainer.val_split
    remove_leftovers(folder.path)
    if resumed:
        folder.cut_metrics(trainer.state.epochs_done)
    else:
        folder.clear()
    write_skipped(folder.path, train.skipped, scanned=("train", "val", "test"))
    folder.write_config(
        trainer.config.as_json(),
        device=str(trainer.context.device),
        num_processes=trainer.context.team.size,
        weights_loaded=trainer.state.network.weights_loaded,
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
    if config.run.resume is None:
        if not config.run.overwrite:
            folder.check_free()
        return None
    if folder.last.exists():
        try:
            return load_checkpoint(folder.last)
        except InputError as error:
            raise InputError(f"{error}; {way_out(folder)}") from None
    if config.run.resume == "must" or folder.checkpoints():
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
    values, run = had.values(), stopped.path.parent
    for name, now in given.items():
        before = values[name]
        if now == before or (name == "seed" and now == -1):
            continue
        if name == "n_epochs" and now < before:
            raise InputError(f"--n_epochs is {now}, but the run in {run} has {before}: it may only grow")
        if not OPTIONS[name].facts.may_change:
            raise InputError(f"{OPTIONS[name].flag} is {now}, but the run in {run} has {before}: leave it as it was")
    return had.changed(**{name: value for name, value in given.items() if name != "seed"})


def check_same_images(train: Split, val: Split | None, stopped: Checkpoint) -> None:
    """Raise `InputError` where DATA_PATH holds other images than the run had; older files do not tell those of val/."""
    had, now = stopped.training, fingerprints(train, val)
    for name, verb in (("images", "trains on"), ("val_images", "validates on")):
        if name in had and had[name] != now[name]:
            raise InputError(
                f"the run in {stopped.path.parent} {verb} {had[name]}, but DATA_PATH holds {now[name]}: "
                "resume with the same images, or start a new run"
            )
