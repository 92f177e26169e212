"""Timing of two implementations in turn, and the table of results."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "pillow")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of one task.

    Attributes:
        task: name of the task, with its size.
        ours: time of each call of this program, in seconds.
        theirs: time of each call of the baseline, in seconds, in the same turns; empty without a baseline.
        baseline: description of the baseline.
        facts: further numbers, by name with unit: rates, memory, differences of results.
    """

    task: str
    ours: list[float]
    theirs: list[float] = field(default_factory=list)
    baseline: str = ""
    facts: dict[str, float | str] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """Time of the baseline divided by ours, turn by turn."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)] if self.theirs else []

    def as_json(self) -> dict[str, Any]:
        """Convert to a dict of all numbers, for JSON."""
        ratio = statistics.median(self.ratios) if self.theirs else None
        return {
            "task": self.task,
            "baseline": self.baseline,
            "seconds": self.ours,
            "baseline_seconds": self.theirs,
            "ratio": ratio,
            "ratios": self.ratios,
            **self.facts,
        }


def compare(
    task: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    baseline: str,
    turns: int = 5,
    **facts: float | str,
) -> Timing:
    """Time two functions in turn, A B A B, after an untimed warm-up turn.

    Args:
        task: name of the task, with its size.
        ours: function of this program.
        theirs: function of the baseline.
        baseline: description of the baseline.
        turns: number of timed calls of each function.
        facts: further numbers for the table.
    """
    ours(), theirs()
    pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(turns)]
    return Timing(
        task=task,
        ours=[first for first, _ in pairs],
        theirs=[second for _, second in pairs],
        baseline=baseline,
        facts=facts,
    )


def seconds_of(function: Callable[[], object]) -> float:
    """Time one call in seconds, including pending work on a GPU."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """Describe the machine and the package versions."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: number for name in PACKAGES if (number := version_of(name))},
    }


def _cpu_name() -> str:
    """Read the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def version_of(package: str) -> str | None:
    """Read the version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(timings: list[Timing]) -> str:
    """Format medians as a Markdown table: seconds, ratio with range, further numbers."""
    lines = ["| task | seconds | baseline | its seconds | ratio (range) | |", "|---|---|---|---|---|---|"]
    for timing in timings:
        theirs = f"{statistics.median(timing.theirs):.4g}" if timing.theirs else ""
        ratios = timing.ratios
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        facts = ", ".join(f"{name} {_short(value)}" for name, value in timing.facts.items())
        seconds = f"{statistics.median(timing.ours):.4g}"
        lines.append(f"| {timing.task} | {seconds} | {timing.baseline} | {theirs} | {ratio} | {facts} |")
    return "\n".join(lines)


def _short(value: float | str) -> str:
    """Format a number with four digits."""
    return value if isinstance(value, str) else f"{value:.4g}"
