"""What is done before a training and after it: `python -m salad COMMAND`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from salad.cli import command_of, exit_status
from salad.config import Config
from salad.config.declare import EXPORT, INSPECT, PREDICT
from salad.distributed.team import Team

FOLDER = click.Path(path_type=Path)
NO_RUN = {"net_name": "unet", "xp_path": Path()}  # what a `Config` needs and nothing here depends on


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Prepare data sets, compare runs, score new images, export. Training and testing are main.py and test.py."""


@main.add_command
@command_of(INSPECT, more=(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON rather than text."),))
def inspect(given: dict[str, Any], _: Team) -> None:
    """Say what a data set holds and what is wrong with it, without training; test/ is looked at, too."""
    as_json = given.pop("as_json")
    config = Config.of({**NO_RUN, **given})
    from salad.checks.inspection import inspect_data
    from salad.checks.leaks import refuse_leaks
    from salad.checks.screen import baseline_lines, fact_lines, warning_lines

    found = inspect_data(config)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        baselines = baseline_lines(found.baselines) if found.baselines else []
        click.echo("\n".join([*fact_lines(found), *warning_lines(found), *baselines]))
    if config.data.strict:
        refuse_leaks(found.leaks)


@main.command()
@click.option("--out", type=FOLDER, default="data", show_default=True, help="Folder of the data sets.")
@click.option("--sha256", metavar="HEX", help="Unpack no archive with another SHA-256; the authors publish none.")
@click.option("--archive", type=FOLDER, help="Local copy of author.tar.xz, rather than a download.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def fetch(out: Path, sha256: str | None, archive: Path | None, debug: bool) -> None:
    """Put the authors' images (NIH ChestX-ray14, as the paper splits them) at OUT/author, and count them."""
    from salad.datasets.author_archive import fetch

    with exit_status(debug=debug):
        click.echo("\n".join(fetch(out, archive=archive, sha256=sha256)))


@main.command()
@click.argument("tree", type=click.Choice(["CXR_author"]))
@click.option("--nih", required=True, type=FOLDER, help="The download: images in it, in images/ or in images_*/images.")
@click.option("--lists", required=True, type=FOLDER, help="Folder of train.txt, val.txt and test_attending_rad.txt.")
@click.option("--out", required=True, type=FOLDER, help="Folder to make, data/author for example.")
@click.option("--allow_missing", is_flag=True, help="Go on with the images that are there.")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def prepare(tree: str, nih: Path, lists: Path, out: Path, allow_missing: bool, debug: bool) -> None:
    """Build the folders that the paper used from NIH ChestX-ray14 and lists of lines "<image> <0|1>"."""
    from salad.datasets.author_tree import build_tree

    with exit_status(debug=debug):
        for line in build_tree(nih, lists, out=out, allow_missing=allow_missing):
            click.echo(line)


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--format", "form", type=click.Choice(["text", "csv", "latex"]), default="text", show_default=True)
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def compare(runs: tuple[str, ...], form: str, debug: bool) -> None:
    """Compare what test.py wrote to several folders: AUCs, their mean and standard deviation, paired DeLong p-values.

    RUN is an XP_PATH, or METHOD=XP_PATH; then the runs of a method, its seeds, are averaged and methods compared.
    """
    with exit_status(debug=debug):
        from salad.evaluation.comparison import FORMATS, compare_runs

        click.echo(FORMATS[form](compare_runs(runs)))


DATA_PATH = click.Option(
    ["--data_path"],
    type=FOLDER,
    help="DATA_PATH of the training: for a checkpoint of the authors, which does not say which of its memory rows are "
    "normal.",
)
PREDICT_OPTIONS = (
    click.Argument(["paths"], nargs=-1, metavar="PATH..."),
    click.Option(["--watch"], type=FOLDER, help="Score images as they arrive in this folder, too, until Ctrl-C."),
    click.Option(
        ["--interval"],
        type=click.FloatRange(min=0, min_open=True),
        default=1.0,
        help="Seconds between two looks into it; an image has arrived when two find the same size.  [default: 1]",
    ),
    click.Option(
        ["--calibrate"],
        type=FOLDER,
        help="Folder of normal images for percentiles and threshold, rather than those of validation.",
    ),
    click.Option(["--format", "form"], type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True),
    click.Option(["--out"], type=FOLDER, help="File to write  [default: stdout]"),
    click.Option(["--null"], is_flag=True, help="Paths on stdin end with NUL, as find -print0 writes them."),
    DATA_PATH,
)


@main.add_command
@command_of(PREDICT, more=PREDICT_OPTIONS)
def predict(given: dict[str, Any], _: Team) -> None:
    """Score new images with the checkpoint --load_model; each has its line as soon as it is scored.

    PATH is an image file (PNG, JPEG, TIFF, DICOM, ...), a folder, of which all images are taken, a pattern in quotes,
    or - for a list of those on stdin. A file that cannot be read gets a line with the reason, and the others go on;
    the exit status is 2 only where none can be read.

    Columns: path, score (larger is more anomalous), percentile among normal validation images, abnormal (whether the
    score is above the threshold of --specificity), seconds, error.
    """
    from salad.scoring.predict import run_predict

    run_predict(
        given,
        paths=given.pop("paths", ()),
        watched=given.pop("watch", None),
        interval=given.pop("interval"),
        normals=given.pop("calibrate", None),
        form=given.pop("form"),
        out=given.pop("out", None),
        separator=b"\0" if given.pop("null") else b"\n",
    )


EXPORT_OPTIONS = (
    click.Argument(["checkpoint"], type=FOLDER, metavar="CHECKPOINT"),
    click.Option(["--format", "form"], type=click.Choice(["onnx", "torch", "safetensors"]), required=True),
    click.Option(["--out"], type=FOLDER, required=True, help="File to write."),
    DATA_PATH,
)


@main.add_command
@command_of(EXPORT, more=EXPORT_OPTIONS)
def export(given: dict[str, Any], _: Team) -> None:
    """Write a checkpoint for programs that do not have this one.

    onnx and torch (a file of torch.export) take a batch of resized grey images, (B, 1, S, S) uint8, and give the score
    that the model is kept with: knn, with the embeddings, local, backbone, or what is fused of these. Framing,
    normalisation and memory are inside. safetensors holds the weights and memories. All carry the options as metadata.
    The options here are for files of the authors, which do not know them.
    """
    from salad.export.files import export

    click.echo(export(given.pop("checkpoint"), form=given.pop("form"), out=given.pop("out"), given=given))


if __name__ == "__main__":
    main(prog_name="python -m salad")
