"""Times of work on a GPU: of calls, of the parts of a training step, and of its kernels."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.gpu.notes import synchronize
from salad.training.trainer import Trainer

NUM_KERNELS = 12  # shown of a profile


def seconds_of_call(function: Callable[[], object], device: torch.device, *, times: int = 5, warm_up: int = 2) -> float:
    """Measure the median time of a call, in seconds, with its work on the GPU done."""
    for _ in range(warm_up):
        function()
    taken = []
    for _ in range(times):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def seconds_of_steps(step: Callable[[], object], device: torch.device, *, steps: int, warm_up: int) -> float:
    """Measure the mean time of a step, in seconds, in a row of steps that nothing waits for."""
    for _ in range(warm_up):
        step()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize(device)
    return (time.perf_counter() - start) / steps


class Stopwatch:
    """Time of the parts of a step on the device, from the first to the last operation of each part.

    Args:
        device: device of the step; on a CPU the clock of the host counts.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._marks: list[tuple[str, Any, Any]] = []

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function, so that its calls count as a part."""

        def call(*values: Any, **options: Any) -> Any:
            start = self._now()
            result = function(*values, **options)
            self._marks.append((part, start, self._now()))
            return result

        return call

    def milliseconds(self, num_steps: int) -> dict[str, float]:
        """Compute the mean time of each part in a step, in milliseconds."""
        synchronize(self.device)
        totals: dict[str, float] = defaultdict(float)
        for part, start, end in self._marks:
            totals[part] += start.elapsed_time(end) if self.device.type == "cuda" else 1000 * (end - start)
        return {part: total / num_steps for part, total in totals.items()}


@contextmanager
def watched(trainer: Trainer, watch: Stopwatch) -> Iterator[None]:
    """Time the parts of the trainer's steps: views, forward, losses, backward, optimiser, memory, meters."""
    state, backward = trainer.state, torch.Tensor.backward
    replaced: list[tuple[Any, str, str]] = [
        (trainer.replica, "forward", "forward"),
        (trainer, "loss_terms", "losses"),
        (state.scaler, "step", "optimiser"),
        (state.bank, "update", "memory"),
        (state.meters, "add", "meters"),
        (trainer.guard, "watch", "guard"),
    ]
    views = trainer.augmentation
    trainer.augmentation = _Views(watch.timed("views", views.views))  # type: ignore[assignment]
    for owner, name, part in replaced:
        setattr(owner, name, watch.timed(part, getattr(owner, name)))
    torch.Tensor.backward = watch.timed("backward", backward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
        trainer.augmentation = views
        for owner, name, _ in replaced:
            delattr(owner, name)  # the method of its class shows again


class _Views:
    """Stand-in for the augmentation of a trainer.

    Args:
        views: its timed method.
    """

    def __init__(self, views: Callable[..., Any]) -> None:
        self.views = views


def profile_steps(step: Callable[[], object], device: torch.device, *, steps: int) -> dict[str, Any]:
    """Profile steps: the share of the time in which the GPU computes, and the kernels that take most of it."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    step()
    synchronize(device)
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        seconds = time.perf_counter() - start
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    kernels = [event for event in profiler.key_averages() if not on_gpu or is_kernel(event)]
    kernels.sort(key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in kernels)
    return {
        "busy share": total / 1e6 / seconds,
        "kernels a step": sum(event.count for event in kernels) / steps,
        "ms a step": 1000 * seconds / steps,
        "largest": {event.key[:90]: getattr(event, key) / 1000 / steps for event in kernels[:NUM_KERNELS]},
    }


def is_kernel(event: Any) -> bool:
    """Check if an entry of a profile is work of a GPU, and not the name that a step of the program has there."""
    return str(event.device_type).endswith("CUDA") and not getattr(event, "is_user_annotation", False)
