"""Export of a checkpoint to ONNX, torch.export or safetensors."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

import salad
from salad.datasets.phantom import draw_radiograph
from salad.errors import DivergedError, InputError, printable
from salad.export.portable import PARTS, Portable
from salad.export.statement import INPUT, state
from salad.images.in_memory import read_source
from salad.images.read import SHRINK_TO
from salad.packages import install_command, lack_of_packages
from salad.runs.atomic import atomic_file
from salad.runs.outputs import check_output, is_special
from salad.runs.sealed import is_sealed
from salad.scoring.stream import Scorer, load_scorer

MAX_DIFFERENCE = 1e-4  # between outputs of a file and of the scorer; relative for values above 1
ALIGNED_DIFFERENCE = 1e-2  # the same with --align: a grey level of a registered film may be rounded the other way
FILM_SIZES = (256, 256), (420, 300), (200, 500), (90, 110)  # width and height of the films to compare, in pixels
DRAWN_SIZE = 256  # side of a film before it is stretched to one of these sizes


def export(path: Path, *, form: str, out: Path, given: dict[str, Any]) -> str:
    """Export a checkpoint for other programs.

    Args:
        path: path of the checkpoint.
        form: one of `FORMATS`.
        out: output file, written atomically after the checks.
        given: given options of `Config`, by name.

    Returns:
        Inputs and outputs of the file, in one line.

    Raises:
        InputError: the checkpoint or an option is wrong, or a package is missing.
        DivergedError: the outputs of the file differ from those of the checkpoint.
        StorageError: the file cannot be written.
    """
    check_output(out, inputs=[path])
    if out.exists() and (is_special(out) or is_sealed(out)):
        raise InputError(f"--out {printable(out)}: is a checkpoint or no regular file: choose another name")
    scorer = load_scorer(path, {**given, "device": "cpu"})
    if other := set(scorer.model.parts) - PARTS:
        raise InputError(
            f"{printable(path)}: its score {scorer.config.scoring.score} is made of {', '.join(sorted(other))}, but "
            f"only {', '.join(sorted(PARTS))} and fused ones can be exported: save it with such a score first, "
            'Detector.load(PATH, score="knn").save(FILE)'
        )
    scorer.model.log_warnings()
    with atomic_file(out) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters
        note = FORMATS[form](scorer, temporary)
    return f"{printable(out)}: {note}"


def facts(scorer: Scorer) -> dict[str, str]:
    """Collect the metadata of a file: preprocessing, score, threshold and all options."""
    config, checkpoint, calibration = scorer.config, scorer.checkpoint, scorer.calibration
    backbone = scorer.model.normals.backbone
    values = {
        "salad": salad.__version__,
        "isize": config.images.size,
        "resize": config.images.resize,
        "trim": config.images.trim,
        "shrink_jpeg_to": SHRINK_TO * config.images.decoded_size,
        "normalize": config.images.normalize,
        "crop": config.images.crop,
        "align": config.images.align,
        "decoded_size": config.images.decoded_size,
        "score": config.scoring.score,
        "parts": config.scoring.parts,
        "k": scorer.model.normals.k or None,
        "local_grid": config.scoring.local_grid,
        "backbone": backbone and backbone.name,
        "backbone_digest": backbone and backbone.digest,
        "threshold": calibration and calibration.threshold(config.scoring.specificity),
        "specificity": config.scoring.specificity,
        "num_normals": calibration and len(calibration.scores),
        "warnings": scorer.model.warnings,
        "normal_class": checkpoint.normal_class,
        "config": checkpoint.config or config.as_json(),
    }
    return _as_texts(values)


def facts_to_score(scorer: Scorer) -> dict[str, str]:
    """Collect the metadata of a file that scores: `facts`, and all that its reader has to know, see `state`."""
    stated = state(scorer.config, has_threshold=scorer.calibration is not None)
    return {**_as_texts(stated), **facts(scorer)}


def _as_texts(values: dict[str, Any]) -> dict[str, str]:
    """Write values as JSON, texts as they are."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _to_onnx(scorer: Scorer, path: Path) -> str:
    """Write an ONNX graph, and compare it with torch if onnxruntime is installed."""
    _need("--format onnx", "onnx", "onnxscript")
    program = _program(scorer)
    with _quiet():
        onnx = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=_outputs(scorer), verbose=False, external_data=False
        )
    assert onnx is not None, "the dynamo exporter returns a program"
    onnx.model.metadata_props.update(facts_to_score(scorer))
    onnx.save(path)
    try:
        import onnxruntime
    except ImportError:
        needed = f"onnxruntime is needed: {install_command('export')}"
        return f"{_signature(scorer)}; not compared with predict, for which {needed}"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    difference = compare(scorer, lambda grey: session.run(None, {INPUT: grey}))
    return f"{_signature(scorer)}; {_agreement(difference)}"


def _to_program(scorer: Scorer, path: Path) -> str:
    """Write a file of torch.export, which torch loads without this program."""
    program = _program(scorer)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"facts.json": json.dumps(facts_to_score(scorer))})
    with path.open("rb") as file:
        loaded = torch.export.load(file).module()
    difference = compare(scorer, lambda grey: [out.detach().numpy() for out in loaded(torch.from_numpy(grey))])
    return f"{_signature(scorer)}; {_agreement(difference)}"


def _to_safetensors(scorer: Scorer, path: Path) -> str:
    """Write weights, memories, standards and calibration as tensors, with `facts` as metadata."""
    _need("--format safetensors", "safetensors")
    from safetensors.torch import save

    checkpoint = scorer.checkpoint
    tensors = {f"network.{name}": tensor for name, tensor in checkpoint.model_state.items()}
    tensors["memory.rows"] = checkpoint.bank.rows
    if checkpoint.row_labels is not None:
        tensors["memory.row_labels"] = checkpoint.row_labels
    for part, memory in scorer.model.memories.items():
        tensors |= {f"memory.{part}.{name}": tensor for name, tensor in memory.state_dict().items()}
    for part, pair in (scorer.model.standards.of if scorer.model.standards else {}).items():
        tensors[f"standards.{part}"] = torch.tensor(pair, dtype=torch.float64)  # mean and standard deviation
    if scorer.model.context.preprocessing.template is not None:
        tensors["mean_image"] = scorer.model.context.preprocessing.template
    if scorer.model.held_out is not None:
        tensors["val_normal_scores"] = torch.from_numpy(scorer.model.held_out.scores)
    path.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=facts(scorer)))
    score = scorer.config.scoring.score
    return f"{len(tensors)} tensors: the network, the memory of its score {score} and its calibration"


FORMATS: dict[str, Callable[[Scorer, Path], str]] = {
    "onnx": _to_onnx,
    "torch": _to_program,
    "safetensors": _to_safetensors,
}


def compare(scorer: Scorer, run: Callable[[np.ndarray], list[np.ndarray]]) -> float:
    """Compute the largest difference between a file and the scorer, on films of several sizes and on noise.

    Args:
        scorer: scorer of the checkpoint, as in predict.
        run: function from images (B, 1, S0, S0), uint8, to the outputs of the file.

    Raises:
        DivergedError: the difference is above `MAX_DIFFERENCE` (with --align `ALIGNED_DIFFERENCE`), or NaN.
    """
    films, worst = draw_films(scorer), 0.0
    most = ALIGNED_DIFFERENCE if scorer.config.images.align else MAX_DIFFERENCE
    for grey in (films, films[:1], draw_noise(scorer)):
        for wanted, actual in zip(_expected(scorer, grey), run(grey), strict=True):
            difference = np.abs(wanted - actual) / np.maximum(np.abs(wanted), 1)
            worst = float(np.maximum(worst, difference.max()))  # keeps NaN, unlike max
    if not worst <= most:
        raise DivergedError(f"the file differs from predict by {worst:.1e}, above {most:.0e}: not written")
    return worst


def draw_films(scorer: Scorer) -> np.ndarray:
    """Draw phantom films of the sizes `FILM_SIZES`, some in a black frame, and prepare them as predict does.

    Returns:
        Images of the decoder, (N, 1, S0, S0), uint8.
    """
    rng, decoder = np.random.default_rng(0), scorer.model.context.decoder
    squares = []
    for number, size in enumerate(FILM_SIZES):
        film = Image.fromarray(draw_radiograph(rng, size=DRAWN_SIZE, abnormal=False)).resize(size)
        framed = ImageOps.expand(film, border=size[0] // 10) if number % 2 else film
        squares.append(read_source(np.asarray(framed), decoder))
    return np.stack(squares)[:, None]


def draw_noise(scorer: Scorer) -> np.ndarray:
    """Draw noise of several contrasts, (N, 1, S0, S0), uint8."""
    rng, size = np.random.default_rng(0), scorer.config.images.decoded_size
    contrasts = np.linspace(50, 255, 3)[:, None, None, None]
    return (rng.random((3, 1, size, size)) * contrasts).astype(np.uint8)


def _expected(scorer: Scorer, grey: np.ndarray) -> list[np.ndarray]:
    """Score images as predict does, and return the outputs that a file must have."""
    scored = scorer.model.score(torch.from_numpy(grey))
    scores = scorer.model.combine(scored.parts)
    return [scored.inputs.z.numpy(), scores] if scorer.model.normals.k else [scores]


def _agreement(difference: float) -> str:
    """Say how far the outputs of a file are from those of the scorer."""
    return f"differs from predict by {difference:.1e} at most, on films of {len(FILM_SIZES)} sizes and on noise"


def _program(scorer: Scorer) -> torch.export.ExportedProgram:
    """Trace the portable module of a scorer."""
    portable = Portable(scorer.model).eval().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 1, scorer.config.images.decoded_size, scorer.config.images.decoded_size, dtype=torch.uint8)
    with torch.no_grad():
        shapes = {INPUT: {0: torch.export.Dim("batch")}}
        return torch.export.export(portable, (example,), dynamic_shapes=shapes)


def _outputs(scorer: Scorer) -> list[str]:
    """List the names of the outputs."""
    return ["embedding", "score"] if scorer.model.normals.k else ["score"]


def _signature(scorer: Scorer) -> str:
    """Describe inputs and outputs, with their shapes."""
    config, (_, dim) = scorer.config, scorer.model.normals.rows.shape
    which = (
        f" {config.scoring.score} of {', '.join(config.scoring.parts)}"
        if config.scoring.is_fused
        else f" {' '.join(config.scoring.parts)}"
    )
    score = "score (B,)" + (
        f" of the {scorer.model.normals.k} nearest rows" if config.scoring.parts == ("knn",) else which
    )
    outputs = f"embedding (B, {dim}), {score}" if scorer.model.normals.k else score
    return f"{INPUT} (B, 1, {config.images.decoded_size}, {config.images.decoded_size}) uint8 -> {outputs}"


def _need(what: str, *packages: str) -> None:
    """Raise `InputError` if a package is not installed."""
    if said := lack_of_packages(what, packages, extra="export"):
        raise InputError(said)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log and stdout of the exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with contextlib.redirect_stdout(None):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
