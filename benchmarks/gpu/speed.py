"""Stage `speed`: rates of training steps, their parts, whole loops, scoring and the search of neighbours."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.loop import loop_rates, scoring_rate
from benchmarks.gpu.notes import Notes, Setting, free_memory, peak_gib
from benchmarks.gpu.search import anchors_of, knn_scores
from benchmarks.gpu.timing import Stopwatch, profile_steps, seconds_of_steps, watched
from benchmarks.step import NUM_ROWS, Task, gigaflop, our_step, our_trainer, plain_step
from salad.device import seed_everything

NETWORKS = {"unet": (256, 64), "CXR_resnet18": (224, 32)}  # pixels, at full size and in smoke form
BATCH = 32
# name -> (number format of --amp, convolutions in TF32, --compile)
WAYS = {
    "bf16": ("bf16", True, False),
    "TF32": ("off", True, False),
    "float32": ("off", False, False),
    "bf16 compiled": ("bf16", True, True),
    "TF32 compiled": ("off", True, True),
}
QUICK, COMPILED = ("bf16", "TF32", "float32"), ("bf16 compiled", "TF32 compiled")
MEMORY_USED = 0.85  # share of the memory of a GPU that the largest batch may fill
LARGEST_BATCH = NUM_ROWS // 32 * 32  # a batch holds an image once


def run(setting: Setting, notes: Notes) -> None:
    """Measure what matters most first; each result is written at once."""
    for name, measure in plan(setting):
        if setting.left < 5:
            notes.add(name, {"left out": "no time"})
            continue
        notes.measure(name, measure)
        gc.collect()
        free_memory(setting.on)


def plan(setting: Setting) -> list[tuple[str, Callable[[], Any]]]:
    """List the measurements by name, in order."""
    steps: list[tuple[str, Callable[[], Any]]] = []
    rest: list[tuple[str, Callable[[], Any]]] = []
    quick = QUICK[:1] if setting.smoke else QUICK  # TF32 is a matter of GPUs
    for net_name in NETWORKS:
        steps += [(f"step, {net_name}, {way}, batch {BATCH}", _rate(setting, net_name, way)) for way in quick]
        steps += [(f"step, {net_name}, plain, batch {BATCH}", _plain(setting, net_name))]
        steps += [(f"step, {net_name}, bf16, largest batch", _largest(setting, net_name))]
        steps += [(f"parts of a step, {net_name}, bf16", _parts(setting, net_name))]
        rest += [(f"step, {net_name}, {way}, batch {BATCH}", _rate(setting, net_name, way)) for way in COMPILED[:1]]
    steps += [("loop, unet, released", lambda: loop_rates(setting, batch_size=BATCH))]
    steps += [("loop, unet, released, large batch", lambda: loop_rates(setting, batch_size=4 * BATCH))]
    steps += [("scoring", lambda: scoring_rate(setting))]
    steps += [("kNN", lambda: knn_scores(setting))]
    steps += [("anchors, 112,120 rows", lambda: anchors_of(setting, num_rows=112_120))]
    rest += [("anchors, 1,000,000 rows", lambda: anchors_of(setting, num_rows=1_000_000))]
    rest += [(f"step, {name}, {COMPILED[1]}, batch {BATCH}", _rate(setting, name, COMPILED[1])) for name in NETWORKS]
    return steps if setting.smoke else steps + rest  # compiling takes a minute each on a CPU


def task_of(setting: Setting, net_name: str, *, way: str = "bf16", batch_size: int = BATCH) -> Task:
    """Make the task of a step, and draw its images."""
    amp, tf32, compiled = WAYS[way]
    seed_everything(0, deterministic=False)  # with cuDNN's search for the fastest algorithms, as in a run
    torch.backends.cudnn.allow_tf32 = tf32
    batch_size = setting.size(batch_size, 4)
    task = Task(
        net_name=net_name,
        isize=setting.size(*NETWORKS[net_name]),
        batch_size=batch_size,
        folder=Path(setting.work) / f"step_{net_name}_{min(batch_size, 64)}",
        device=setting.device,
        amp=amp,
        compile=compiled,
    )
    if not (task.folder / "data").exists():
        task.draw_images()
    return task


def rate_of(setting: Setting, task: Task, step: Callable[[], object]) -> dict[str, Any]:
    """Measure a step: time, images/s, TFLOP/s as the plain program counts them, and the peak of memory."""
    free_memory(setting.on)
    seconds = seconds_of_steps(step, setting.on, steps=setting.size(30, 2), warm_up=setting.size(8, 1))
    return {
        "batch": task.batch_size,
        "ms": 1000 * seconds,
        "images/s": task.batch_size / seconds,
        "TFLOP/s": gigaflop(task) / 1000 / seconds,
        "peak GiB": peak_gib(setting.on),
    }


def _rate(setting: Setting, net_name: str, way: str) -> Callable[[], dict[str, Any]]:
    """Make the measurement of this program's step."""

    def measure() -> dict[str, Any]:
        task = task_of(setting, net_name, way=way)
        return rate_of(setting, task, our_step(task))

    return measure


def _plain(setting: Setting, net_name: str) -> Callable[[], dict[str, Any]]:
    """Make the measurement of the baseline's step, in float32 with torch's defaults."""

    def measure() -> dict[str, Any]:
        task = task_of(setting, net_name, way="TF32")
        torch.backends.cudnn.benchmark = False
        return rate_of(setting, task, plain_step(task))

    return measure


def _largest(setting: Setting, net_name: str) -> Callable[[], dict[str, Any]]:
    """Make the measurement of the largest batch that fits, which the memory of two small ones foretells."""

    def measure() -> dict[str, Any]:
        if setting.device != "cuda":
            task = task_of(setting, net_name, batch_size=2 * BATCH)
            return rate_of(setting, task, our_step(task))
        small, large = (_peak(setting, net_name, batch_size) for batch_size in (BATCH, 3 * BATCH))
        each = (large - small) / (2 * BATCH)
        room = MEMORY_USED * torch.cuda.get_device_properties(0).total_memory / 2**30 - (small - BATCH * each)
        batch_size = min(LARGEST_BATCH, int(room / each) // BATCH * BATCH)
        free_memory(setting.on)
        task = task_of(setting, net_name, batch_size=batch_size)
        return {**rate_of(setting, task, our_step(task)), "MiB an image": 1024 * each}

    return measure


def _peak(setting: Setting, net_name: str, batch_size: int) -> float:
    """Measure the memory of three steps, in GiB."""
    task = task_of(setting, net_name, batch_size=batch_size)
    step = our_step(task)
    step()  # searches algorithms, which takes memory of its own
    free_memory(setting.on)
    seconds_of_steps(step, setting.on, steps=2, warm_up=0)
    return peak_gib(setting.on) or 0.0


def _parts(setting: Setting, net_name: str) -> Callable[[], dict[str, Any]]:
    """Make the measurement of the parts of a step and of its kernels."""

    def measure() -> dict[str, Any]:
        task, num_steps = task_of(setting, net_name), setting.size(20, 2)
        trainer, draw = our_trainer(task)
        seconds_of_steps(lambda: trainer.step(draw()), setting.on, steps=1, warm_up=setting.size(8, 1))
        watch = Stopwatch(setting.on)
        with watched(trainer, watch):
            seconds = seconds_of_steps(lambda: trainer.step(draw()), setting.on, steps=num_steps, warm_up=0)
        parts = watch.milliseconds(num_steps)
        profiled = profile_steps(lambda: trainer.step(draw()), setting.on, steps=setting.size(5, 1))
        return {"ms": 1000 * seconds, "parts, ms": parts, "profile": profiled}

    return measure
