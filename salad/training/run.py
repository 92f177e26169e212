"""Training run, new or resumed, from its options to its last checkpoint."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from pathlib import Path
from typing import Any

from salad.build import RunContext, open_context
from salad.checkpoint import Checkpoint, load_checkpoint
from salad.checks.screen import describe_split
from salad.config import OPTIONS, Config
from salad.config.recipes import describe_recipe
from salad.datasets.more_normals import MORE
from salad.device import seed_everything
from salad.distributed.team import SOLO, Team
from salad.errors import DamagedError, InputError, StoppedError
from salad.images.scan import write_skipped
from salad.networks.backbones import check_backbone
from salad.runs.folder import RunFolder
from salad.runs.followers import check_packages, following
from salad.runs.sealed import remove_leftovers
from salad.samples import Split
from salad.scores import SCORES
from salad.scoring.patch_memories import check_same_weights
from salad.training.data import check_enough, read_training_data
from salad.training.signals import Interrupts
from salad.training.state import fingerprints
from salad.training.template import make_template
from salad.training.trainer import Trainer

logger = logging.getLogger(__name__)


def run_training(given: dict[str, Any], folder: RunFolder, *, team: Team = SOLO) -> None:
    """Train on the images of train/ and write the run folder; never read test/.

    Args:
        given: given options, by name; the others have their defaults or, in a resumed run, the values of that run.
        folder: folder of the run, locked; with --overwrite, a run in it is replaced once all checks have passed.
        team: processes that train together.

    Raises:
        InputError: the data or an option is wrong, or contradicts the run to resume.
        DivergedError: a loss is not finite; the checkpoints so far are kept.
        RunInterruptedError: a signal asked for an end; the state is saved.
        StorageError: a file cannot be written.
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
    with interrupts:  # only now is there a state to save
        from tqdm.contrib.logging import logging_redirect_tqdm  # its import warns in notebooks without widgets

        start_run(trainer, stopped)
        output = config.output
        following_run = following(
            folder, tensorboard=output.tensorboard, mlflow=output.mlflow, options=config.as_json()
        )
        with logging_redirect_tqdm([logging.getLogger("salad")]), following_run:
            trainer.run()


def settle(given: dict[str, Any], folder: RunFolder) -> tuple[Config, Checkpoint | None]:
    """Settle the options of a run and load the run to resume, if any, before reading images or writing files.

    Raises:
        InputError: an option is wrong or contradicts the run to resume, or a package is missing.
    """
    config = Config.of(given)
    stopped = find_stopped_run(config, folder)
    if stopped is not None:
        config = resume_config(given, stopped)
    check_packages(tensorboard=config.output.tensorboard, mlflow=config.output.mlflow)
    uses_backbone = any(SCORES[part].uses_backbone for part in config.scoring.parts)
    check_backbone(config.scoring.backbone if uses_backbone else None, config.scoring.backbone_weights)
    return config, stopped


def read_images(context: RunContext, stopped: Checkpoint | None) -> tuple[Split, Split | None]:
    """Read train and val, and check them.

    Raises:
        InputError: there are too few images, or they differ between processes or from those of the run to resume.
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
    """Load the state of the run to resume, if any, and write the files of the folder that precede the first step."""
    run, team = trainer.config.run, trainer.context.team
    if not team.is_first:  # weights and memory are shared, but each process draws its own random numbers
        seed_everything(run.seed + team.rank, deterministic=run.deterministic)
    if stopped is not None:
        check_same_weights(trainer.validation.backbone, stopped)
        trainer.state.load_state_dict(stopped)
        logger.info("resumed: after %d epochs", trainer.state.epochs_done)
    if team.is_first:
        write_start(trainer, resumed=stopped is not None)
    if stopped is None:
        trainer.save()


def write_start(trainer: Trainer, *, resumed: bool) -> None:
    """Prepare the folder for a new or resumed run, and write config.json and skipped.csv."""
    folder, train, val = trainer.folder, trainer.train_split, trainer.val_split
    remove_leftovers(folder.path)
    if resumed:
        folder.cut_metrics(trainer.state.epochs_done)
    else:
        folder.clear()
    write_skipped(folder.path, train.skipped, scanned=("train", "val", "test", MORE))
    folder.write_config(
        trainer.config.as_json(),
        device=str(trainer.context.device),
        num_processes=trainer.context.team.size,
        weights_loaded=trainer.state.network.weights_loaded,
        normal_class=train.normal_class,
        num_train=len(train.samples),
        num_val=len(val.samples) if val else 0,
        images={"train": describe_split(train), "val": describe_split(val) if val else "none"},
        kinds=train.kinds,
        num_skipped=len(train.skipped),
    )


def find_stopped_run(config: Config, folder: RunFolder) -> Checkpoint | None:
    """Load the checkpoint to resume from; None for a new run.

    Raises:
        InputError: the folder holds a run but neither --resume nor --overwrite is given, or there is no run to resume.
    """
    if config.run.resume is None:
        if not config.run.overwrite:
            folder.check_free()
        return None
    if folder.last.exists():
        try:
            return load_checkpoint(folder.last)
        except DamagedError as error:
            raise DamagedError(f"{error}; {way_out(folder)}") from None
    if config.run.resume == "must" or folder.checkpoints():
        raise InputError(f"{folder.path}: holds no run to --resume ({folder.last.name} is missing); {way_out(folder)}")
    folder.check_no_results()
    return None


def way_out(folder: RunFolder) -> str:
    """Suggest a way out if last.tar is lost; never to replace a run with a checkpoint that may be whole."""
    if not folder.held_files():
        return "leave --resume out to start one"
    for path in [*reversed(folder.round_models()), folder.model]:
        if not path.exists():
            continue
        try:
            load_checkpoint(path)
        except DamagedError:
            continue
        except StoppedError:
            return f"{path} cannot be read either: mend that first, or start anew with another XP_PATH"
        return _new_run(path)
    return "--overwrite starts anew"


def _new_run(path: Path) -> str:
    """Suggest to start a run from the weights of a file."""
    return f"a new run, with another XP_PATH, can start from its weights:  --load_model {shlex.quote(str(path))}"


def resume_config(given: dict[str, Any], stopped: Checkpoint) -> Config:
    """Combine the options of the run to resume with the given ones that may change.

    Raises:
        InputError: a given option contradicts the run.
    """
    if stopped.config is None:
        raise InputError(f"{stopped.path}: holds no options, so it is not a run of this program")
    try:
        config = Config.from_json(stopped.config)
    except InputError as error:  # an option of a newer release may change what is trained
        raise InputError(f"{stopped.path}: cannot be resumed by this release: {error}") from None
    if not stopped.is_resumable:
        raise InputError(f"{stopped.path}: is a file for scoring, from which no run goes on; {_new_run(stopped.path)}")
    values, run = config.values(), stopped.path.parent
    for name, now in given.items():
        before = values[name]
        if now == before or (name == "seed" and now == -1):
            continue
        if name == "n_epochs" and (now < before or before == 0):
            rule = "it may only grow" if before else "it has no network to train"
            raise InputError(f"--n_epochs is {now}, but the run in {run} has {before}: {rule}")
        if not OPTIONS[name].facts.may_change:
            raise InputError(f"{OPTIONS[name].flag} is {now}, but the run in {run} has {before}: leave it as it was")
    return config.changed(**{name: value for name, value in given.items() if name != "seed"})


def check_same_images(train: Split, val: Split | None, stopped: Checkpoint) -> None:
    """Raise `InputError` if DATA_PATH holds other images than the run; older files do not record those of val/."""
    saved, now = stopped.training, fingerprints(train, val)
    for name, verb in (("images", "trains on"), ("val_images", "validates on")):
        if name in saved and saved[name] != now[name]:
            raise InputError(
                f"the run in {stopped.path.parent} {verb} {saved[name]}, but DATA_PATH holds {now[name]}: "
                "resume with the same images, or start a new run"
            )
