"""Timing two ways of doing the same thing in turn, and the table of what came out."""

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
    """What a benchmark found about one task.

    Attributes:
        task: what was done, with its size.
        ours: seconds of each run of ours.
        theirs: seconds of each run of the baseline, in the same turns; empty where there is none.
        baseline: what the baseline is.
        facts: further numbers, by name with their unit: rates, memory, differences of results.
    """

    task: str
    ours: list[float]
    theirs: list[float] = field(default_factory=list)
    baseline: str = ""
    facts: dict[str, float | str] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """How many times faster ours was, turn by turn."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)] if self.theirs else []

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
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
    """Time two functions in turn, A B A B, after a turn that does not count.

    Args:
        task: what both do, with its size.
        ours: this program's way.
        theirs: the baseline's way.
        baseline: what it is.
        turns: how often each is timed.
        facts: further numbers for the table.
    """
    ours(), theirs()
    pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(turns)]
    return Timing(
        task=task, ours=[one for one, _ in pairs], theirs=[two for _, two in pairs], baseline=baseline, facts=facts
    )


def seconds_of(function: Callable[[], object]) -> float:
    """How long one call takes, a GPU's work included."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(timings: list[Timing]) -> str:
    """The medians as a Markdown table: seconds, ratio with its range, further numbers."""
    lines = ["| task | seconds | baseline | its seconds | ratio (range) | |", "|---|---|---|---|---|---|"]
    for one in timings:
        theirs = f"{statistics.median(one.theirs):.4g}" if one.theirs else ""
        ratios = one.ratios
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        facts = ", ".join(f"{name} {_short(value)}" for name, value in one.facts.items())
        seconds = f"{statistics.median(one.ours):.4g}"
        lines.append(f"| {one.task} | {seconds} | {one.baseline} | {theirs} | {ratio} | {facts} |")
    return "\n".join(lines)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
