"""Result of a method's training, which `benchmarks.peers.cell` measures, and the lines of code that it takes."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COST_FILE = "cost.json"  # in the folder of shared features, which are all there once it is


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of work on some images.

    Attributes:
        cpu_seconds: processor time of the process and its children.
        peak_bytes: largest resident memory of the process so far.
        num_images: number of images.
    """

    cpu_seconds: float
    peak_bytes: int
    num_images: int


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Method after its training.

    Attributes:
        score: function of a folder that scores the images below it, in the order of their paths, (N,); larger is more
            anomalous.
        threshold: score above which the method itself calls an image abnormal; None if it has no threshold.
        model: file as its user would save it.
        example: functions that its user would write, whose lines count.
        locate: function of a folder of `Films` that measures the pointing game on its boxes, as the share of hits and
            that of chance; None for a method without maps.
        shared: cost of the features of the training images, which several methods share; None if nothing is shared.
    """

    score: Callable[[Path], NDArray[np.float64]]
    threshold: float | None
    model: Path
    example: Sequence[Callable[..., object]]
    locate: Callable[[Path], tuple[float, float]] | None = None
    shared: Cost | None = None

    @property
    def num_lines(self) -> int:
        """Number of lines of the example: bodies of the functions, without docstrings, comments and empty lines."""
        return sum(map(num_lines, self.example))


def num_lines(function: Callable[..., object]) -> int:
    """Count the lines of code in the body of a function, without its docstring, comments and empty lines."""
    source = textwrap.dedent(inspect.getsource(function))
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef), "a function with a name"
    start = definition.body[1 if ast.get_docstring(definition) else 0].lineno
    lines = [line.strip() for line in source.splitlines()[start - 1 :]]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def images_below(folder: Path) -> list[Path]:
    """List the files below a folder in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def features_folder(xp: Path) -> Path:
    """Name the folder of the features that the methods of a data set share.

    Args:
        xp: folder of a method with a seed, in that of the data set.
    """
    return xp.parent.parent / "features"
