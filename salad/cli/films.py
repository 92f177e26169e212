"""Commands that use a model: score new films, serve a page for them, enrol those of another place, export."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import click

from salad.cli.options import command_of
from salad.cli.program import PathType
from salad.config.declare import ENROL, EXPORT, PREDICT
from salad.distributed.team import Team
from salad.errors import InputError, give
from salad.packages import lack_of_packages

MAX_INTERVAL = 86_400  # seconds
MAX_MB, MAX_QUEUE = 512, 200  # as large as a file may be; fewer than connections


def finite(_: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse NaN, which lies within all bounds."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number", param=parameter)
    return value


DATA_PATH = click.Option(
    ["--data_path"],
    type=PathType(),
    help="Data set of the training. Only the authors' checkpoints need it, to find out which memory rows are normal.",
)
PREDICT_OPTIONS = (
    click.Argument(["paths"], nargs=-1, metavar="PATH..."),
    click.Option(
        ["--watch"],
        type=PathType(),
        help="Also score images that arrive in this folder, and score changed ones again, until Ctrl-C.",
    ),
    click.Option(
        ["--interval"],
        type=click.FloatRange(min=0, max=MAX_INTERVAL, min_open=True),
        callback=finite,
        default=1.0,
        help="Seconds between two checks of that folder, up to a day; an image is scored when two checks in a row "
        "find it unchanged.  [default: 1]",
    ),
    click.Option(
        ["--state"],
        type=PathType(),
        help="File that records which images of --watch are scored  [default: OUT.state]",
    ),
    click.Option(
        ["--calibrate"],
        type=PathType(),
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
        type=PathType(),
        help="Output file, replaced at the end; with --watch or --append it grows line by line  [default: stdout]",
    ),
    click.Option(
        ["--append"],
        is_flag=True,
        help="Write to the end of --out; with --watch, continue where an earlier watch ended.",
    ),
    click.Option(
        ["--dicom_tags"],
        metavar="TAGS",
        help="Further columns: elements of DICOM files by keyword or number (00185101), such as "
        "SOPInstanceUID,StudyInstanceUID,ViewPosition; empty for other files.  [default: none]",
    ),
    click.Option(
        ["--allow_identifying"],
        is_flag=True,
        help="Let --dicom_tags name elements that may identify a patient.  [default: off]",
    ),
    click.Option(
        ["--heatmaps"],
        type=PathType(),
        metavar="DIR",
        help="Folder for a picture of each image with its map  [default: none]",
    ),
    click.Option(
        ["--report"],
        type=PathType(),
        metavar="FILE",
        help="HTML file about the images: the highest scores with their maps and nearest normal images, and all "
        "lines  [default: none]",
    ),
    click.Option(["--null"], is_flag=True, help="Read paths on stdin that end with NUL, as written by find -print0."),
    DATA_PATH,
)


@command_of(PREDICT, more=PREDICT_OPTIONS)
def predict(given: dict[str, Any], _: Team) -> None:
    """Score new images with the checkpoint --load_model; a line is written as soon as an image is scored.

    PATH is an image file (PNG, JPEG, TIFF, DICOM, ...), a folder of images, a pattern in quotes, or - for a list of
    paths on stdin. A file that cannot be read gets a line with the reason, and scoring continues. The exit status is
    2 only if no image can be read.

    Columns: path, score (larger is more anomalous), percentile among normal validation images, abnormal (1 if the
    score is above the threshold of --specificity, else 0), seconds, error, note (warnings about the image, such as
    that it is black or of a view that the model was not trained on, and about all scores of the model; "scored again"
    if --watch found the file changed), and those of --dicom_tags.
    """
    from salad.images.dicom_tags import parse_tags
    from salad.scoring.predict import Job, Outlet, run_predict
    from salad.scoring.stream import Scorer

    tags, allow_identifying = given.pop("dicom_tags", None), given.pop("allow_identifying", False)
    if tags is None and allow_identifying:
        raise InputError("--allow_identifying is for the columns of --dicom_tags: give that, too")
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
        tags=() if tags is None else parse_tags(tags, allow_identifying=allow_identifying),
        heatmaps=given.pop("heatmaps", None),
        report=given.pop("report", None),
    )

    def outlets(job: Job, scorer: Scorer) -> Sequence[Outlet]:
        if job.heatmaps is None and job.report is None:
            return ()  # what follows takes a second to import
        from salad.report.films import make_outlets

        return make_outlets(job, scorer, command=shlex.join(sys.argv))

    run_predict(given, job, outlets)


SERVE_OPTIONS = (
    click.Option(
        ["--host"],
        default="127.0.0.1",
        help="Name or address to listen on. If other machines can reach it, requests need a token.  "
        "[default: 127.0.0.1]",
    ),
    click.Option(
        ["--port"],
        type=click.IntRange(0, 65535),
        default=8765,
        show_default=True,
        help="Port to listen on; 0 for any that is free.",
    ),
    click.Option(
        ["--token_file"],
        type=PathType(),
        help="File whose first line is the token that requests must carry  [default: none if only this machine can "
        "reach the server, else a random token, shown once]",
    ),
    click.Option(
        ["--allow_host"],
        multiple=True,
        metavar="NAME",
        help="Further name of this server in the Host header, such as that of a reverse proxy; repeatable.",
    ),
    click.Option(
        ["--max_mb"],
        type=click.IntRange(1, MAX_MB),
        default=64,
        show_default=True,
        help="Largest size of a film, in MiB; larger ones are refused.",
    ),
    click.Option(
        ["--queue"],
        type=click.IntRange(1, MAX_QUEUE),
        default=16,
        show_default=True,
        help="Number of films accepted at a time: one is scored, the others wait, and further ones are refused.",
    ),
    DATA_PATH,
)


@command_of(PREDICT, more=SERVE_OPTIONS)
def serve(given: dict[str, Any], _: Team) -> None:
    """Serve a page on which films are dropped to be scored and explained with the checkpoint --load_model.

    POST /score with a film as its body gives the line of predict in JSON; ?explain=1 adds map, places, sentence and
    nearest normal images. GET /health tells the state. Films are neither written to a disk nor logged. SIGTERM and
    Ctrl-C end the server after it has scored the films that it has accepted. Needs the packages of the extra serve.
    """
    if said := lack_of_packages("salad serve", ("starlette", "uvicorn"), extra="serve"):
        raise InputError(said)
    from salad.serve.app import Limits
    from salad.serve.server import Service, run_serve

    limits = Limits(max_bytes=given.pop("max_mb") * 2**20, queue=given.pop("queue"))
    service = Service(
        host=given.pop("host"),
        port=given.pop("port"),
        limits=limits,
        token_file=given.pop("token_file", None),
        names=given.pop("allow_host", ()),
    )
    run_serve(given, service)


ENROL_OPTIONS = (
    click.Argument(["model"], type=PathType(), metavar="MODEL"),
    click.Argument(["normals"], nargs=-1, required=True, metavar="NORMALS..."),
    click.Option(["--out"], type=PathType(), required=True, help="File for the new model."),
    click.Option(["--overwrite"], is_flag=True, help="Replace the file --out.  [default: off]"),
    DATA_PATH,
)


@command_of(ENROL, more=ENROL_OPTIONS)
def enrol(given: dict[str, Any], _: Team) -> None:
    """Add normal films of another hospital to the memory of MODEL, without training, and write a new model.

    NORMALS are image files (PNG, JPEG, TIFF, DICOM, ...), folders, patterns in quotes, or - for a list of paths on
    stdin; 20 or more are best. Standards, threshold and percentiles of the new model come from them, each scored
    without its own rows. Films that cannot be read and copies are left out. The output says how far the films are from
    the normal ones that the model knew.
    """
    from salad.scoring.enrol import run_enrol

    out, paths, overwrite = given.pop("out"), given.pop("normals"), given.pop("overwrite", False)
    give("\n".join(run_enrol(given.pop("model"), paths, out=out, overwrite=overwrite, given=given).lines()))


EXPORT_OPTIONS = (
    click.Argument(["checkpoint"], type=PathType(), metavar="CHECKPOINT"),
    click.Option(
        ["--format", "form"], type=click.Choice(["onnx", "torch", "safetensors"]), required=True, help="Format."
    ),
    click.Option(["--out"], type=PathType(), required=True, help="Output file."),
    DATA_PATH,
)


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
