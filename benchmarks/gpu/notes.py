"""Settings of a stage, and the JSON file of its results, which is whole after every result."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from salad.runs.atomic import atomic_file


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Settings of a stage.

    Attributes:
        data: folder that holds the data sets `kermany_dev` and `nih_adult_dev`, or one of them.
        out: folder of the results.
        work: folder for caches and runs, which is removed at the end.
        device: ``cuda`` or ``cpu``.
        smoke: True for tiny sizes, which show that a stage runs and measure nothing.
        seconds: time that the stage may take.
        start: start of the stage on the clock of `time.monotonic`.
    """

    data: Path
    out: Path
    work: Path
    device: str
    smoke: bool
    seconds: float
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left to the stage."""
        return self.start + self.seconds - time.monotonic()

    @property
    def on(self) -> torch.device:
        """Device to compute on."""
        return torch.device(self.device)

    def size(self, full: int, tiny: int) -> int:
        """Choose between the full size of something and its tiny size."""
        return tiny if self.smoke else full


class Notes:
    """Results of a stage by name, in a JSON file that is replaced after every result.

    Args:
        path: file of the results.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        """Add a result and write the file."""
        self.values[name] = value
        with atomic_file(self.path) as file:
            file.write_text(json.dumps(self.values, indent=1, default=str) + "\n", encoding="utf-8")

    def measure(self, name: str, function: Callable[[], Any]) -> Any:
        """Add the result of a function or, if it fails, its error, so that the next one still runs."""
        start = time.monotonic()
        try:
            value = function()
        except Exception as error:  # whatever it is, it must not cost the results that follow
            traceback.print_exc()
            value = {"error": f"{type(error).__name__}: {error}"[:500]}
        self.add(name, value)
        print(f"{name}: {json.dumps(value, default=str)[:300]} ({time.monotonic() - start:.1f} s)", flush=True)
        return value


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gib(device: torch.device) -> float | None:
    """Measure the peak memory of a GPU since the last call, in GiB; None on a CPU."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def free_memory(device: torch.device) -> None:
    """Give unused memory of a GPU back, and start a new peak."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
