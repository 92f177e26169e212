"""Benchmark `cuda`: training steps on a GPU, by number format, batch size and compilation."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch

from benchmarks.compare import Timing, compare
from benchmarks.sides import Side
from benchmarks.step import BASELINE, Step, Task, our_step, plain_step
from salad.device import seed_everything

NUM_STEPS, WARM_UP_STEPS = 20, 5
WAYS = [(amp, compiled) for compiled in (False, True) for amp in ("off", "bf16", "fp16")]


def on_gpu(make: Callable[[Task], Step], task: Task) -> Callable[[], float]:
    """Make a function, for a separate process, that trains some steps and returns the peak GPU memory in GiB."""
    if make is our_step:
        seed_everything(0, deterministic=False)  # with TF32 and cuDNN benchmarking, as in a run
    step = make(task)
    for _ in range(WARM_UP_STEPS):
        step()
    torch.cuda.reset_peak_memory_stats()

    def steps() -> float:
        for _ in range(NUM_STEPS):
            step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**30

    return steps


def run(*, turns: int) -> list[Timing]:
    """Time `unet` at 256 pixels.

    Raises:
        click.UsageError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise click.UsageError("cuda needs a GPU that torch can use")
    timings = []
    with TemporaryDirectory() as folder:
        for batch_size in (32, 128):
            task = Task(
                net_name="unet", isize=256, batch_size=batch_size, folder=Path(folder) / str(batch_size), device="cuda"
            )
            task.draw_images()
            with Side(on_gpu, plain_step, task) as plain:
                timings += [time_way(task, plain, amp=amp, compiled=compiled, turns=turns) for amp, compiled in WAYS]
    return timings


def time_way(task: Task, plain: Side, *, amp: str, compiled: bool, turns: int) -> Timing:
    """Time one number format, with or without compilation: one row of the table."""
    how = f"amp {amp}" + (", compiled" if compiled else "")
    with Side(on_gpu, our_step, dataclasses.replace(task, amp=amp, compile=compiled)) as ours:
        timing = compare(
            f"{NUM_STEPS} training steps, {task.net_name}, {task.isize} px, batch {task.batch_size}, {how}",
            ours,
            plain,
            baseline=f"{BASELINE}, fp32",
            turns=turns,
        )
        facts: dict[str, float | str] = {
            "images/s": NUM_STEPS * task.batch_size / statistics.median(timing.ours),
            "GiB": ours(),
            "its images/s": NUM_STEPS * task.batch_size / statistics.median(timing.theirs),
            "its GiB": plain(),
        }
    return dataclasses.replace(timing, facts=facts)
