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
from torch import Tensor

import salad
from salad.errors import DivergedError, InputError, printable
from salad.export.portable import PARTS, Portable
from salad.runs.atomic import atomic_file
from salad.runs.outputs import check_output, is_special
from salad.runs.sealed import is_sealed
from salad.scoring.stream import Scorer, load_scorer

INPUT = "grey"
MAX_DIFFERENCE = 1e-4  # between outputs of a file and of torch; relative for values above 1
CHECKED_BATCHES = 1, 3  # batch sizes; the export uses another one
INSTALL = 'pip install "salad[export]"'


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
    values = {
        "salad": salad.__version__,
        "isize": config.images.size,
        "resize": config.images.resize,
        "trim": config.images.trim,
        "normalize": config.images.normalize,
        "crop": config.images.crop,
        "align": config.images.align,
        "decoded_size": config.images.decoded_size,
        "score": config.scoring.score,
        "parts": config.scoring.parts,
        "k": scorer.model.normals.k or None,
        "local_grid": config.scoring.local_grid,
        "backbone": config.scoring.backbone,
        "threshold": calibration and calibration.threshold(config.scoring.specificity),
        "specificity": config.scoring.specificity,
        "num_normals": calibration and len(calibration.scores),
        "warnings": scorer.model.warnings,
        "normal_class": checkpoint.normal_class,
        "config": checkpoint.config or config.as_json(),
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _to_onnx(scorer: Scorer, path: Path) -> str:
    """Write an ONNX graph, and compare it with torch if onnxruntime is installed."""
    _need("--format onnx", "onnx", "onnxscript")
    portable, program = _program(scorer)
    with _quiet():
        onnx = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=_outputs(scorer), verbose=False, external_data=False
        )
    assert onnx is not None, "the dynamo exporter returns a program"
    onnx.model.metadata_props.update(facts(scorer))
    onnx.save(path)
    try:
        import onnxruntime
    except ImportError:
        return f"{_signature(scorer)}; not compared with torch, for which onnxruntime is needed: {INSTALL}"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    difference = compare(
        portable, lambda grey: session.run(None, {INPUT: grey}), size=scorer.config.images.decoded_size
    )
    return f"{_signature(scorer)}; differs from torch by {difference:.1e} at most"


def _to_program(scorer: Scorer, path: Path) -> str:
    """Write a file of torch.export, which torch loads without this program."""
    portable, program = _program(scorer)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"facts.json": json.dumps(facts(scorer))})
    with path.open("rb") as file:
        loaded = torch.export.load(file).module()
    compare(
        portable,
        lambda grey: [output.detach().numpy() for output in loaded(torch.from_numpy(grey))],
        size=scorer.config.images.decoded_size,
    )
    return _signature(scorer)


def _to_safetensors(scorer: Scorer, path: Path) -> str:
    """Write weights, memories, standards and calibration as tensors, with `facts` as metadata."""
    _need("--format safetensors", "safetensors")
    from safetensors.torch import save

    checkpoint = scorer.checkpoint
    tensors = {f"network.{name}": tensor for name, tensor in checkpoint.model_state.items()}
    tensors["memory.rows"] = checkpoint.bank.rows
    if checkpoint.row_labels is not None:
        tensors["memory.row_labels"] = checkpoint.row_labels
    for part, memory in checkpoint.memories.items():
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


def compare(portable: Portable, run: Callable[[np.ndarray], list[np.ndarray]], *, size: int) -> float:
    """Compute the largest difference between outputs of the module and of a file, on noise of several contrasts.

    Args:
        portable: exported module.
        run: function from images (B, 1, S, S), uint8, to the outputs of the file.
        size: S, height and width of the images, in pixels.

    Raises:
        DivergedError: the difference is above `MAX_DIFFERENCE`, or NaN.
    """
    generator, worst = np.random.default_rng(0), 0.0
    for num_images in CHECKED_BATCHES:
        noise = generator.random((num_images, 1, size, size)) * generator.uniform(50, 255, (num_images, 1, 1, 1))
        grey = noise.astype(np.uint8)
        with torch.no_grad():
            expected: tuple[Tensor, ...] = portable(torch.from_numpy(grey))
        for wanted, actual in zip(expected, run(grey), strict=True):
            difference = np.abs(wanted.numpy() - actual) / np.maximum(np.abs(wanted.numpy()), 1)
            worst = float(np.maximum(worst, difference.max()))  # keeps NaN, unlike max
    if not worst <= MAX_DIFFERENCE:
        raise DivergedError(f"the file differs from torch by {worst:.1e}, above {MAX_DIFFERENCE:.0e}: not written")
    return worst


def _program(scorer: Scorer) -> tuple[Portable, torch.export.ExportedProgram]:
    """Make the portable module of a scorer, and trace it."""
    portable = Portable(scorer.model).eval().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 1, scorer.config.images.decoded_size, scorer.config.images.decoded_size, dtype=torch.uint8)
    with torch.no_grad():
        shapes = {INPUT: {0: torch.export.Dim("batch")}}
        return portable, torch.export.export(portable, (example,), dynamic_shapes=shapes)


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
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f"{what} needs the package {' and '.join(missing)}: {INSTALL}")


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
