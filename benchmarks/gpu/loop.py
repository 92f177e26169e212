"""Rates of whole loops: epochs from the cache, and the scoring of a split."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

from benchmarks.gpu.notes import Setting, peak_gib, synchronize
from benchmarks.gpu.timing import seconds_of_steps
from benchmarks.gpu.training import Training, open_trainer, scanned, score_round
from salad.datasets.loader import Batch
from salad.training.meters import Meters
from salad.training.trainer import Trainer


def start_trainer(setting: Setting, *, batch_size: int) -> Trainer:
    """Make a trainer of the recipe `released` in round 0."""
    training = Training(
        recipe="released",
        net_name="unet",
        data_set="kermany_dev",
        options=(("batch_size", setting.size(batch_size, 4)),),
    )
    config = training.config(setting.data, setting.work, device=setting.device, smoke=setting.smoke)
    trainer = open_trainer(config, smoke=setting.smoke)
    trainer.state.round = 0
    trainer.start_round()
    return trainer


def loop_rates(setting: Setting, *, batch_size: int) -> dict[str, Any]:
    """Measure epochs from the cache, and the share of them that their steps alone would take on the GPU."""
    trainer = start_trainer(setting, batch_size=batch_size)
    epochs = [trainer.train_epoch() for _ in range(setting.size(6, 2))][1:]
    seconds = statistics.median(epoch["seconds"] for epoch in epochs)
    first = next(iter(trainer.loader.epoch(0)))
    batch = dataclasses.replace(first, grey=first.grey.to(setting.on), index=first.index.to(setting.on))
    trainer.state.network.train()
    trainer.state.meters = Meters(setting.on)
    alone = seconds_of_steps(lambda: trainer.step(batch), setting.on, steps=setting.size(20, 1), warm_up=1)
    start = time.perf_counter()
    num_read = sum(_copy(batch, setting) for batch in trainer.loader.epoch(1))
    synchronize(setting.on)
    reading = time.perf_counter() - start
    trainer.state.meters = None
    start = time.perf_counter()
    trainer.save()
    return {
        "batch": trainer.config.data.batch_size,
        "images/s": statistics.median(epoch["images_per_second"] for epoch in epochs),
        "seconds an epoch": seconds,
        "busy share": alone * len(trainer.loader) / seconds,
        "images/s of the data alone": num_read / reading,
        "seconds of a checkpoint": time.perf_counter() - start,
        "peak GiB": peak_gib(setting.on),
    }


def _copy(batch: Batch, setting: Setting) -> int:
    """Copy a batch to the device; return its number of images."""
    return len(batch.normalized(setting.on))


def scoring_rate(setting: Setting) -> dict[str, Any]:
    """Measure the scoring of the test images by all scores, the patch memory apart."""
    trainer = start_trainer(setting, batch_size=32)
    split = scanned(trainer.context, "test", smoke=setting.smoke)
    assert split is not None, "only val may be absent"
    score_round(trainer, split)  # searches algorithms
    start = time.perf_counter()
    score_round(trainer, split)
    seconds = time.perf_counter() - start
    return {"images": len(split.samples), "seconds, memory included": seconds, "images/s": len(split.samples) / seconds}
