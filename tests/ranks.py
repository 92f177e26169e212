"""Several processes of one run: started by torchrun, or forked with its environment variables, which is quicker.

Either way each of them is a process of its own that ends with its own status. This file is also what torchrun runs:
python tests/ranks.py PATCH COMMAND WORDS...
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from running import ONE_THREAD, REPOSITORY, SHORT, TINY, shrink_unet
from torch.nn import functional
from torchvision.transforms import v2

import salad.training.trainer
from salad import cli
from salad.datasets.augment import AUGMENTATIONS, Augmentation
from salad.errors import InputError
from salad.memory import MemoryBank
from salad.networks.layers import BatchNorm2d
from salad.training.trainer import Trainer

PRELOAD = ["salad.training.run", "salad.scoring.evaluate", "salad.networks.unet", "salad.distributed.ddp", "ranks"]
HANGS_SECONDS = 300  # no run here takes so long on the busiest machine: what does, hangs


# What is changed in a process before a command runs ---------------------------------------------------------------


def plain() -> None:
    """Nothing but the tiny network."""


def double() -> None:
    """As `keep`; all in float64, nothing drawn in a step, every image normalised alone, a radius after one epoch."""
    keep()
    BatchNorm2d.forward = lambda self, images: functional.group_norm(images, 1, self.weight, self.bias)
    torch.set_default_dtype(torch.float64)
    MemoryBank.__init__.__kwdefaults__["dtype"] = torch.float64
    AUGMENTATIONS["flip"] = Augmentation(v2.Identity(), lambda images: images.square())
    salad.training.trainer.RADIUS_WARM_UP_EPOCHS = 1


def keep() -> None:
    """What each rank holds after an epoch is kept."""
    finish_epoch = Trainer.finish_epoch

    def keeping(self: Trainer, metrics: dict) -> None:
        finish_epoch(self, metrics)
        run = self.state
        state = {"bank": run.bank.rows, "network": run.network.state_dict(), "round": run.round}
        torch.save(state, self.folder.path / f"rank{self.context.team.rank}.pt")

    Trainer.finish_epoch = keeping


def in_step(number: int, rank: int, act: Callable[[], object]) -> None:
    """Let one rank do something in the step of this number, counted over the run."""
    step, count = Trainer.step, 0

    def acting(self: Trainer, batch: object) -> object:
        nonlocal count
        count += 1
        if count == number and self.context.team.rank == rank:
            act()
        return step(self, batch)

    Trainer.step = acting


def fail(error: Exception) -> None:
    raise error


def nan() -> None:
    """The reconstruction loss of rank 1 is not a number from step 4 on."""

    def corrupt() -> None:
        real = Trainer.loss_terms
        Trainer.loss_terms = lambda *words: {name: term * torch.nan for name, term in real(*words).items()}

    in_step(4, 1, corrupt)


PATCHES: dict[str, Callable[[], None]] = {
    "plain": plain,
    "double": double,
    "keep": keep,
    "input_error": lambda: in_step(4, 1, lambda: fail(InputError("x.png: turned bad"))),
    "runtime_error": lambda: in_step(4, 1, lambda: fail(RuntimeError("a fault of rank 1"))),
    "first_fails": lambda: in_step(4, 0, lambda: fail(InputError("x.png: turned bad"))),
    "nan": nan,
    "killed": lambda: in_step(4, 1, lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "sigterm": lambda: in_step(5, 1, lambda: os.kill(os.getpid(), signal.SIGTERM)),
}


def run(patch: str, command: str, words: list[str]) -> None:
    torch.set_num_threads(1)
    shrink_unet()
    PATCHES[patch]()
    getattr(cli, command)(words, prog_name=f"{command}.py")


# Starting them ----------------------------------------------------------------------------------------------------


@dataclass
class Ended:
    """How the processes of a run ended.

    Attributes:
        statuses: of each rank, by rank, or of torchrun alone.
        out: what they wrote to stdout.
        errs: what each of them wrote to stderr.
    """

    statuses: list[int]
    out: str
    errs: list[str]

    @property
    def err(self) -> str:
        """What they wrote to stderr, together."""
        return "".join(self.errs)

    @property
    def errors(self) -> list[str]:
        """The lines on stderr with which the program itself ended."""
        return [line for line in self.err.splitlines() if line.startswith(("Error: ", "Internal error: "))]


def fork(target: Callable[..., None], *words: object, size: int, folder: Path) -> Ended:
    """Run a function in `size` processes, as torchrun would start them; with one, as without torchrun."""
    context = multiprocessing.get_context("forkserver")  # processes of their own, with the imports done
    context.set_forkserver_preload(PRELOAD)
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + HANGS_SECONDS
    processes = [
        context.Process(target=_in_rank, args=(target, words, rank, size, store.port, folder)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
        statuses = [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert None not in statuses, f"still running after {HANGS_SECONDS} s: {_read(folder, 'err')}"
    return Ended(statuses, "".join(_read(folder, "out")), _read(folder, "err"))


def _in_rank(target: Callable[..., None], words: tuple, rank: int, size: int, port: int, folder: Path) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{name}{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if size > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
            "TORCHELASTIC_ERROR_FILE": str(folder / f"cause{rank}"),
            "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        }  # fmt: skip
    target(*words)


def _read(folder: Path, name: str) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob(f"{name}[0-9]"))]


def fork_train(xp: Path, data: Path, *options: object, size: int = 2, patch: str = "plain") -> Ended:
    """main.py in several processes."""
    words = [str(word) for word in ("CXR_author", "unet", xp, data, *SHORT, *options)]
    return fork(run, patch, "train", words, size=size, folder=xp.with_name(f"{xp.name}.says"))


def fork_test(xp: Path, data: Path, *options: object, size: int = 2, patch: str = "plain") -> Ended:
    """test.py in several processes; its report takes --report."""
    words = [str(word) for word in ("CXR_author", "unet", xp, data, *TINY, "--no_report", *options)]
    return fork(run, patch, "test", words, size=size, folder=xp.with_name(f"{xp.name}.says"))


@contextlib.contextmanager
def torchrun(*command: object) -> Iterator[subprocess.Popen]:
    """torchrun with two processes; it and they are gone afterwards."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = subprocess.Popen(
        [*launcher, *map(str, command)],
        cwd=REPOSITORY,
        env={**ONE_THREAD, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for pid in [*_children(process.pid), process.pid]:  # torchrun gives its processes sessions of their own
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    os.kill(pid, signal.SIGKILL)
        process.communicate()


def end(process: subprocess.Popen) -> Ended:
    out, err = process.communicate(timeout=HANGS_SECONDS)
    return Ended([process.returncode], out, [err])


def _children(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3:])
