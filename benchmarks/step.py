"""Benchmark `step`: whole training steps on the CPU, from views to memory update, with both networks."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.compare import Timing, compare, seconds_of
from benchmarks.plain import PLAIN_NETWORKS, plain_loss, plain_update
from benchmarks.sides import Side
from salad.anchors import Anchors, discover_anchors
from salad.build import RunContext
from salad.config import Config
from salad.datasets import phantom
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.loader import Batch
from salad.device import keep_freed_memory
from salad.images.read import read_image
from salad.memory import MemoryBank
from salad.networks import build_network
from salad.runs.folder import RunFolder
from salad.training.data import read_training_data
from salad.training.meters import Meters
from salad.training.trainer import Trainer

NUM_ROWS, REP_DIM, GEMM_SIZE = 1000, 200, 4096
MAX_FILMS = 64  # drawn for a batch
BASELINE = "NCHW, Adam in a loop, torch's own modules"
Step = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Training task of both sides.

    Attributes:
        net_name: name of the network.
        isize: S, height and width of the images, in pixels.
        batch_size: B, number of images in a batch.
        folder: folder for images and run; `draw_images` fills it.
        device: device to compute on.
        amp: number format of this program; the baseline uses fp32.
        compile: True to compile the network of this program.
    """

    net_name: str
    isize: int
    batch_size: int
    folder: Path
    device: str = "cpu"
    amp: str = "off"
    compile: bool = False

    @property
    def config(self) -> Config:
        """Config of the training."""
        return Config.of(
            {
                "dataset_name": "CXR_author",
                "net_name": self.net_name,
                "xp_path": self.folder / "run",
                "data_path": self.folder / "data",
                "isize": self.isize,
                "rep_dim": REP_DIM,
                "weights": "none" if self.net_name == "CXR_resnet18" else None,
                "batch_size": self.batch_size,
                "n_jobs_dataloader": 0,
                "device": self.device,
                "amp": self.amp,
                "compile": self.compile,
            }
        )

    def draw_images(self) -> None:
        """Draw images for a batch, which a large one repeats; small ones, to save time."""
        num_films = min(max(16, self.batch_size), MAX_FILMS)
        phantom.write_phantom(self.folder / "data", size=64, num_train=num_films, num_val=0, num_test=1)

    def start_network(self) -> nn.Module:
        """Make the initial network, the same for both sides."""
        torch.manual_seed(0)
        return build_network(self.net_name, rep_dim=REP_DIM, isize=self.isize)

    def start_memory(self) -> tuple[Tensor, Anchors, Tensor]:
        """Make rows, anchors and the SVDD centre, the same for both sides."""
        torch.manual_seed(1)
        rows = MemoryBank(NUM_ROWS, REP_DIM, temperature=0.1, momentum=0.5, dtype=torch.get_default_dtype()).rows
        anchors = discover_anchors(rows, num_anchors=NUM_ROWS // 2, num_neighbours=10, temperature=0.1)
        return rows.to(self.device), anchors.to(torch.device(self.device)), rows[0].to(self.device)

    def batches(self) -> Callable[[], Batch]:
        """Make a function that returns the images with new memory rows on each call, and seed the views."""
        paths = sorted((self.folder / "data/train").rglob("*.png"))
        films = [read_image(path, isize=self.isize, resize="squash") for path in paths[: self.batch_size]]
        grey = torch.from_numpy(np.stack(films))[:, None]
        grey = grey[torch.arange(self.batch_size) % len(films)]
        grey = grey.pin_memory() if self.device == "cuda" else grey
        torch.manual_seed(2)
        generator = torch.Generator().manual_seed(3)
        return lambda: Batch(grey, torch.randperm(NUM_ROWS, generator=generator)[: self.batch_size])


def our_trainer(task: Task) -> tuple[Trainer, Callable[[], Batch]]:
    """Make a trainer of this program in a round with anchors, and a function that draws its batches."""
    config, device = task.config, torch.device(task.device)
    context = RunContext(config=config, device=device)
    train, _ = read_training_data(context)
    trainer = Trainer(context, RunFolder(config.output.xp_path), train=train, val=None)
    state = trainer.state
    state.network.load_state_dict(task.start_network().state_dict())
    state.network.train()
    state.bank.rows, state.anchors, state.centre = task.start_memory()
    state.round, state.meters, draw = 1, Meters(device), task.batches()
    return trainer, draw


def our_step(task: Task) -> Step:
    """Make the step of this program: `Trainer.step` in a round with anchors."""
    trainer, draw = our_trainer(task)
    return lambda: trainer.step(draw())


def plain_step(task: Task) -> Step:
    """Make the step of the baseline, with the same mathematics in plain torch."""
    config, device = task.config, torch.device(task.device)
    network = PLAIN_NETWORKS[task.net_name](rep_dim=REP_DIM, isize=task.isize)
    network.load_state_dict(task.start_network().state_dict())
    network.to(device).train()
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=config.optimisation.lr,
        weight_decay=config.optimisation.weight_decay,
        foreach=False,
        fused=False,
    )
    rows, anchors, centre = task.start_memory()
    neighbours = dict(zip(anchors.anchors.tolist(), anchors.neighbours.tolist(), strict=True))
    draw = task.batches()

    def step() -> Tensor:
        batch = draw()
        index = batch.index.to(device)
        inputs, targets = AUGMENTATIONS[config.images.augment].views(batch.grey.to(device), num_views=1)
        optimizer.zero_grad()
        z, recon = network(inputs.contiguous())
        rec, aggregation, svdd = plain_loss(
            z, recon, targets, index=index, rows=rows, neighbours=neighbours, centre=centre, temperature=0.1
        )
        loss = (
            config.loss.weights["rec"] * rec
            + config.loss.weights["aggregation"] * aggregation
            + config.loss.weights["svdd"] * svdd
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        plain_update(rows, index, z.detach(), momentum=config.memory.npc_momentum)
        return loss.detach()

    return step


def on_cpu(make: Callable[[Task], Step], task: Task, keep: bool) -> Callable[[], float]:  # noqa: FBT001
    """Make a step, for a separate process, that returns its loss; with `keep`, malloc keeps freed memory."""
    if keep:
        keep_freed_memory()
    step = make(task)
    return lambda: step().item()


def gigaflop(task: Task) -> float:
    """Count the multiplications and additions of a step of the baseline, in 10**9."""
    return _flop_of_image(task.net_name, task.isize) * task.batch_size / 1e9


@functools.cache
def _flop_of_image(net_name: str, isize: int) -> float:
    """Count the multiplications and additions for one image, forward and backward."""
    network = PLAIN_NETWORKS[net_name](rep_dim=REP_DIM, isize=isize).to("meta")
    with FlopCounterMode(display=False) as counter:
        # two images, because plain batch norm refuses a single one where it leaves one pixel
        z, recon = network(torch.empty(2, 3, isize, isize, device="meta"))
        (z.sum() + recon.sum()).backward()
    flop: int = counter.get_total_flops()
    return flop / 2


def gemm_rate(*, device: str = "cpu", times: int = 5) -> float:
    """Measure the GFLOP/s of a large fp32 matrix product."""
    a, b = torch.rand(2, GEMM_SIZE, GEMM_SIZE, device=device)
    return 2 * GEMM_SIZE**3 / statistics.median(seconds_of(lambda: a @ b) for _ in range(times)) / 1e9


def run(*, turns: int) -> list[Timing]:
    """Time both networks against the baseline, without and with our malloc setting."""
    with TemporaryDirectory() as folder:
        tasks = [
            Task(net_name=net_name, isize=isize, batch_size=16, folder=Path(folder) / net_name)
            for net_name, isize in (("unet", 256), ("CXR_resnet18", 224))
        ]
        return [timing for task in tasks for timing in time_steps(task, turns=turns)]


def time_steps(task: Task, *, turns: int) -> list[Timing]:
    """Time one network: two rows of the table."""
    task.draw_images()
    what = f"training step, {task.net_name}, {task.isize} px, batch {task.batch_size}"
    losses: list[list[float]] = [[], []]
    with Side(on_cpu, our_step, task, True) as ours:
        with Side(on_cpu, plain_step, task, False) as plain:
            gemm = gemm_rate()
            timing = compare(
                what,
                lambda: losses[0].append(ours()),
                lambda: losses[1].append(plain()),
                baseline=BASELINE,
                turns=turns,
            )
        gemm = statistics.mean([gemm, gemm_rate()])
        with Side(on_cpu, plain_step, task, True) as plain:
            kept = compare(what, ours, plain, baseline=f"{BASELINE}, freed memory kept as ours", turns=turns)
    return [with_facts(timing, task, gemm=gemm, losses=losses), kept]


def with_facts(timing: Timing, task: Task, *, gemm: float, losses: list[list[float]]) -> Timing:
    """Add GFLOP/s, their share of a matrix product, and the largest difference between the losses of both sides."""
    rate = gigaflop(task) / statistics.median(timing.ours)
    facts: dict[str, float | str] = {
        "GFLOP/s": rate,
        "GEMM GFLOP/s": gemm,
        "% of GEMM": 100 * rate / gemm,
        "largest difference of losses": max(abs(first - second) for first, second in zip(*losses, strict=True)),
    }
    return dataclasses.replace(timing, facts=facts)
