"""Commands for use before and after training: `python -m salad COMMAND`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from salad.cli import Group, PathType, Program, command_of, exit_status
from salad.config import Config
from salad.config.declare import ENROL, EXPORT, INSPECT, PREDICT
from salad.distributed.team import Team
from salad.errors import give, say

FOLDER = PathType()
MAX_INTERVAL = 86_400  # seconds
NO_RUN = {"net_name": "unet", "xp_path": Path()}  # required by `Config`, without effect here


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Prepare data sets, compare runs, score new images, and export models.

    Use main.py to train and test.py to test.
    """


@main.add_command
@command_of(INSPECT, more=(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of text."),))
def inspect(given: dict[str, Any], _: Team) -> None:
    """Describe a data set, its test images included, and report problems, without training."""
    as_json = given.pop("as_json")
    config = Config.of({**NO_RUN, **given})
    from salad.checks.films import refuse_unread
    from salad.checks.inspection import inspect_data
    from salad.checks.leaks import refuse_leaks
    from salad.checks.screen import baseline_lines, fact_lines, warning_lines

    inspection = inspect_data(config)
    if as_json:
        give(json.dumps(inspection.as_json(), indent=2))
    else:
        baselines = baseline_lines(inspection.baselines) if inspection.baselines else []
        give("\n".join([*fact_lines(inspection), *warning_lines(inspection), *baselines]))
    if config.data.strict:
        refuse_unread(inspection.unread)
        refuse_leaks(inspection.leaks)


@main.command(cls=Program)
@click.option("--out", type=FOLDER, default="data", show_default=True, help="Folder of the data sets.")
@click.option(
    "--sha256",
    metavar="HEX",
    help="Expected SHA-256 of the archive; another one is an error. The authors publish none.",
)
@click.option("--archive", type=FOLDER, help="Local copy of author.tar.xz to use instead of a download.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def fetch(out: Path, sha256: str | None, archive: Path | None, debug: bool) -> None:
    """Download the authors' images (NIH ChestX-ray14, split as in the paper) to OUT/author, and count them."""
    from salad.datasets.author_archive import fetch

    with exit_status(debug=debug):
        give("\n".join(fetch(out, archive=archive, sha256=sha256)))


@main.command(cls=Program)
@click.argument("tree", type=click.Choice(["CXR_author"]))
@click.option(
    "--nih",
    required=True,
    type=FOLDER,
    help="Folder of the NIH download, with images in it, in images/ or in images_*/images.",
)
@click.option("--lists", required=True, type=FOLDER, help="Folder of train.txt, val.txt and test_attending_rad.txt.")
@click.option("--out", required=True, type=FOLDER, help="Folder to create, for example data/author.")
@click.option("--allow_missing", is_flag=True, help="Continue with the images that are present.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def prepare(tree: str, nih: Path, lists: Path, out: Path, allow_missing: bool, debug: bool) -> None:
    """Build the paper's data set from NIH ChestX-ray14 and the authors' lists, with lines "<image> <0|1>"."""
    from salad.datasets.author_tree import build_tree

    with exit_status(debug=debug):
        for line in build_tree(nih, lists, out=out, allow_missing=allow_missing):
            give(line)


@main.command(cls=Program)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "latex"]),
    default="text",
    show_default=True,
    help="Format of the table.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def compare(runs: tuple[str, ...], form: str, debug: bool) -> None:
    """Compare test results of several runs: AUCs, their mean and standard deviation, and paired DeLong p-values.

    RUN is an XP_PATH or METHOD=XP_PATH. With METHOD, the runs (seeds) of a method are averaged, and methods compared.
    """
    with exit_status(debug=debug):
        from salad.evaluation.comparison import FORMATS, compare_runs

        comparison = compare_runs(runs)
        for run in comparison.runs:
            if run.warnings:
                say(f"{run.name}: {'; '.join(run.warnings)}")
        give(FORMATS[form](comparison))


def finite(_: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse NaN, which lies within all bounds."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number", param=parameter)
    return value


DATA_PATH = click.Option(
    ["--data_path"],
    type=FOLDER,
    help="Data set of the training. Only the authors' checkpoints need it, to find out which memory rows are normal.",
)
PREDICT_OPTIONS = (
    click.Argument(["paths"], nargs=-1, metavar="PATH..."),
    click.Option(
        ["--watch"],
        type=FOLDER,
        help="Also score images that arrive in this folder, and again those that change, until Ctrl-C.",
    ),
    click.Option(
        ["--interval"],
        type=click.FloatRange(min=0, max=MAX_INTERVAL, min_open=True),
        callback=finite,
        default=1.0,
        help="Seconds between two looks at that folder, up to a day; an image is scored once two looks in a row find "
        "it unchanged.  [default: 1]",
    ),
    click.Option(
        ["--state"],
        type=FOLDER,
        help="File that remembers the images of --watch that are scored  [default: OUT.state]",
    ),
    click.Option(
        ["--calibrate"],
        type=FOLDER,
        help="Folder of normal images to compute percentiles and the threshold from, instead of validation images.",
    ),
    click.Option(
        ["--format", "form"],
        type=click.Choice(["csv", "jsonl"]),
        default="csv",
        show_default=True,
        help="Format of the output.",
    ),
    click.Option(
        ["--out"],
        type=FOLDER,
        help="Output file, replaced at the end; with --watch or --append it grows line by line  [default: stdout]",
    ),
    click.Option(
        ["--append"],
        is_flag=True,
        help="Write to the end of --out; with --watch, go on where an earlier watch ended.",
    ),
    click.Option(["--null"], is_flag=True, help="Read paths on stdin that end with NUL, as written by find -print0."),
    DATA_PATH,
)


@main.add_command
@command_of(PREDICT, more=PREDICT_OPTIONS)
def predict(given: dict[str, Any], _: Team) -> None:
    """Score new images with the checkpoint --load_model; a line is written as soon as an image is scored.

    PATH is an image file (PNG, JPEG, TIFF, DICOM, ...), a folder of images, a pattern in quotes, or - for a list of
    paths on stdin. A file that cannot be read gets a line with the reason, and scoring continues. The exit status is
    2 only if no image can be read.

    Columns: path, score (larger is more anomalous), percentile among normal validation images, abnormal (1 if the
    score is above the threshold of --specificity, else 0), seconds, error, note (doubts about the image, such as a
    black one, and about all scores of the model; "scored again" where --watch has found the file changed).
    """
    from salad.scoring.predict import Job, run_predict

    job = Job(
        paths=given.pop("paths", ()),
        watched=given.pop("watch", None),
        interval=given.pop("interval"),
        state=given.pop("state", None),
        normals=given.pop("calibrate", None),
        form=given.pop("form"),
        out=given.pop("out", None),
        append=given.pop("append"),
        separator=b"\0" if given.pop("null") else b"\n",
    )
    run_predict(given, job)


ENROL_OPTIONS = (
    click.Argument(["model"], type=FOLDER, metavar="MODEL"),
    click.Argument(["normals"], nargs=-1, required=True, metavar="NORMALS..."),
    click.Option(["--out"], type=FOLDER, required=True, help="File for the new model."),
    click.Option(["--overwrite"], is_flag=True, help="Replace the file --out.  [default: off]"),
    DATA_PATH,
)


@main.add_command
@command_of(ENROL, more=ENROL_OPTIONS)
def enrol(given: dict[str, Any], _: Team) -> None:
    """Add normal films of the place where MODEL will be used to its memory, without training, and write a new model.

    NORMALS are image files (PNG, JPEG, TIFF, DICOM, ...), folders, patterns in quotes, or - for a list of paths on
    stdin: best 20 or more. Standards, threshold and percentiles of the new model come from them, each scored without
    its own rows. Films that cannot be read and copies are left out. What is printed says how far the films lie from
    the normal ones that the model knew.
    """
    from salad.scoring.enrol import run_enrol

    out, paths, overwrite = given.pop("out"), given.pop("normals"), given.pop("overwrite", False)
    give("\n".join(run_enrol(given.pop("model"), paths, out=out, overwrite=overwrite, given=given).lines()))


EXPORT_OPTIONS = (
    click.Argument(["checkpoint"], type=FOLDER, metavar="CHECKPOINT"),
    click.Option(
        ["--format", "form"], type=click.Choice(["onnx", "torch", "safetensors"]), required=True, help="Format."
    ),
    click.Option(["--out"], type=FOLDER, required=True, help="Output file."),
    DATA_PATH,
)


@main.add_command
@command_of(EXPORT, more=EXPORT_OPTIONS)
def export(given: dict[str, Any], _: Team) -> None:
    """Export a checkpoint for other programs.

    Formats onnx and torch (torch.export) map resized grey images, (B, 1, S, S) uint8, to the score of the checkpoint:
    knn (with the embeddings), local, backbone, or a fused score of these. Registration, normalisation and memory are
    part of the file. Format safetensors holds the weights and memories. All files carry the options as metadata.

    The options below are for checkpoints of the authors, which hold no options; --backbone_weights is for all.
    """
    from salad.export.files import export

    give(export(given.pop("checkpoint"), form=given.pop("form"), out=given.pop("out"), given=given))


if __name__ == "__main__":
    main(prog_name="python -m salad")
