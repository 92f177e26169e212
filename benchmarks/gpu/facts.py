"""Stage `facts`: the machine, and the rates that its GPU reaches in matrix products and copies."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.compare import machine
from benchmarks.gpu.notes import Notes, Setting
from benchmarks.gpu.timing import seconds_of_call

QUERY = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,memory.total,memory.used,power.limit,temperature.gpu"


def run(setting: Setting, notes: Notes) -> None:
    """Write all facts."""
    notes.measure("machine", machine)
    notes.measure("packages", lambda: {d.name: d.version for d in importlib.metadata.distributions()})
    notes.measure(
        "environment", lambda: {k: v for k, v in os.environ.items() if k.startswith(("CUDA", "OMP", "TORCH"))}
    )
    if setting.device == "cuda":
        notes.measure("gpu", gpu_facts)
        notes.measure("nvidia-smi", ask_driver)
    notes.measure("rates", lambda: rates(setting))
    if setting.device == "cuda":
        notes.measure("nvidia-smi after work", ask_driver)


def gpu_facts() -> dict[str, Any]:
    """Describe the GPU as torch sees it."""
    facts = torch.cuda.get_device_properties(0)
    return {
        "name": facts.name,
        "capability": f"{facts.major}.{facts.minor}",
        "multiprocessors": facts.multi_processor_count,
        "GiB": facts.total_memory / 2**30,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "bf16": torch.cuda.is_bf16_supported(False),
    }


def ask_driver() -> dict[str, str]:
    """Read the state of the GPU from its driver, without changing it."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    return dict(zip(QUERY.split(","), (word.strip() for word in said.splitlines()[0].split(",")), strict=True))


def rates(setting: Setting) -> dict[str, float]:
    """Measure TFLOP/s of matrix products by number format, and GB/s of a copy, reading and writing counted."""
    side, found = setting.size(8192, 256), {}
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        found[f"{name} TFLOP/s"] = 2 * side**3 / seconds_of_call(product(setting, side, dtype, tf32), setting.on) / 1e12
    source = torch.rand(setting.size(2**30, 2**16), device=setting.on)
    target = torch.empty_like(source)
    found["copy GB/s"] = 8 * source.numel() / seconds_of_call(lambda: target.copy_(source), setting.on) / 1e9
    return found


def product(setting: Setting, side: int, dtype: torch.dtype, tf32: bool) -> Callable[[], object]:
    """Make the product of two random square matrices."""
    a, b = (torch.randn(side, side, device=setting.on).to(dtype) for _ in range(2))

    def multiply() -> None:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a @ b
        torch.backends.cuda.matmul.allow_tf32 = False

    return multiply
