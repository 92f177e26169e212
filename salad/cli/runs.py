"""Commands that train a model and score the test images of its data set; heavy imports wait until they run."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salad.cli.arguments import add_trained, command_words, how_to_train
from salad.cli.options import command_of
from salad.config import ARGUMENTS, Config
from salad.config.declare import TEST, TRAIN
from salad.distributed.team import Team
from salad.errors import InputError, RunInterruptedError, give, printable

if TYPE_CHECKING:
    from salad.checkpoint import Checkpoint
    from salad.evaluation.result import Result
    from salad.report.compose import Scoring

logger = logging.getLogger(__name__)


def without_resume(words: list[str]) -> list[str]:
    """Remove --resume with its value, and --overwrite, from a command line."""
    values = {i + 1 for i, word in enumerate(words[:-1]) if word == "--resume" and words[i + 1] in ("must", "auto")}
    return [
        word for i, word in enumerate(words) if i not in values and not word.startswith(("--resume", "--overwrite"))
    ]


@command_of(TRAIN)
def train(given: dict[str, Any], team: Team) -> None:
    """Train on the normal images of a data set; write checkpoints and logs to XP_PATH.

    For your own films, XP_PATH --normal DIR is enough: they are split by patient into train, val and test.
    """
    config = Config.of(given)  # cheap checks before anything heavy
    from salad.runs.folder import RunFolder, log_to
    from salad.runs.followers import check_packages

    check_packages(tensorboard=config.output.tensorboard, mlflow=config.output.mlflow)
    from salad.training.run import run_training

    folder = RunFolder(given["xp_path"], writes=team.is_first)
    with folder.starting(), folder.lock():
        log_to(folder)
        try:
            run_training(given, folder, team=team)
        except RunInterruptedError as error:
            go_on = team.how_to(f"{shlex.join(without_resume(sys.argv))} --resume")
            raise RunInterruptedError(error.received, f"go on with: {go_on}") from None
    logger.info("done: score with  %s", shlex.join([*command_words(TEST), str(given["xp_path"])]))


@command_of(TEST)
def test(given: dict[str, Any], team: Team) -> None:
    """Score the test images of a data set; write scores.csv, metrics.json, model_card.md and report.html.

    The AUC is printed last. XP_PATH alone is enough: data set and DATA_PATH are then those of the training.
    Preprocessing, network and score are those of the training by default. The files are written to XP_PATH, or to
    --out. Results of another model or data set are replaced only with --overwrite.
    """
    if given.keys() >= {*ARGUMENTS}:
        Config.of(given)  # cheap checks before anything heavy
    from salad.checkpoint import load_checkpoint
    from salad.device import draw_seed
    from salad.scoring.options import reconcile

    path = find_model(given)
    checkpoint = load_checkpoint(path)
    given = add_trained(given, checkpoint)
    config = Config.of(reconcile(given, checkpoint))
    run_scoring(config.changed(seed=draw_seed(config.run.seed), load_model=path), checkpoint, team=team)


def run_scoring(config: Config, checkpoint: Checkpoint, *, team: Team) -> None:
    """Score the test images, and write and say the results; only the first process of the team writes.

    Raises:
        InputError: the test images cannot be read, or the folder holds other results.
        StorageError: a file cannot be written.
    """
    from salad.evaluation.summary import summarise, write_result
    from salad.explaining.locate import locate
    from salad.explaining.overlays import make_folder
    from salad.report.compose import Scoring
    from salad.runs.folder import RunFolder, log_to
    from salad.scoring.earlier_results import HEATMAPS, MADE_FROM, made_from, replaces_others, shown_folder
    from salad.scoring.evaluate import open_test, run_test

    folder = RunFolder(config.output.out or config.output.xp_path, writes=team.is_first)
    heatmaps = config.output.heatmaps
    with folder.starting():
        log_to(folder)
        context, split = open_test(config, checkpoint, team=team)
        facts: dict[str, Any] = {MADE_FROM: made_from(config, checkpoint, split), HEATMAPS: shown_folder(heatmaps)}
        replaces = config.run.overwrite or replaces_others(folder.path, facts[MADE_FROM], heatmaps=heatmaps)
        if heatmaps is not None:
            make_folder(heatmaps)  # before the scoring, so that an error comes early
        result, model = run_test(context, checkpoint, split)
    if team.is_first:
        facts |= {
            "memory": dict(model.kinds),
            "score": config.scoring.score,
            "checkpoint": str(config.network.load_model),
            "seed": config.run.seed,
        }
        summary = summarise(result, specificity=config.scoring.specificity, seed=config.run.seed)
        write_result(result, summary, folder, **facts)  # now, since the disk may have no room for the heatmaps
    located = locate(model, checkpoint, result=result, folder=heatmaps)
    if not team.is_first:
        return
    if located is not None:
        write_result(result, summary, folder, **facts, localisation=located.as_json())
    if replaces:
        folder.clear_report()  # one of other results must not stay beside these
    scoring = Scoring(
        result=result,
        summary=summary,
        located=located,
        model=model,
        checkpoint=checkpoint,
        folder=folder,
        command=team.how_to(shlex.join(sys.argv)),
    )
    say_results(scoring)


def say_results(scoring: Scoring) -> None:
    """Log the table, write the model card and the report, and print the AUC to stdout, as the last line."""
    for name, value in [*scoring.summary.rows(), *(scoring.located.rows() if scoring.located else [])]:
        logger.info("%-30s %s", name, value)
    from salad.report.model_card import write_card
    from salad.report.write import write_report

    try:
        write_card(scoring)
        if scoring.config.output.report:
            write_report(scoring)
    finally:  # a file that cannot be written does not take the AUC away
        say_auc(scoring.result)


def find_model(given: Mapping[str, Any]) -> Path:
    """Find the checkpoint to score with: --load_model, else the one of XP_PATH.

    Raises:
        InputError: there is no checkpoint in XP_PATH.
    """
    from salad.runs.folder import MODEL_FILE

    if "load_model" in given:
        return Path(given["load_model"])
    path = Path(given["xp_path"], MODEL_FILE)
    if path.exists():
        return path
    if others := sorted(path.parent.glob("*.tar")):
        raise InputError(f"{printable(path)}: no such file; the folder holds {others[-1].name}, for --load_model")
    raise InputError(f"{printable(path)}: no such file; train first:  {how_to_train(given)}")


def say_auc(result: Result) -> None:
    """Print the AUC to stdout."""
    if result.auc is None:
        only = "normal" if result.split.num_normal else "abnormal"
        give(f"AUC score = undefined (all {len(result.scores)} test images are {only})")
    else:
        give(f"AUC score = {result.auc.value:.5f}")
