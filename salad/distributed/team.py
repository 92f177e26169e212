"""The processes that torchrun started together, and what they tell each other. A process alone is a team of one.

torch is imported late: --help and a mistyped option must not wait for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from salad.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch._C._distributed_c10d import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # of one exchange
CONNECT_TIMEOUT = timedelta(minutes=5)
END = "salad/end"  # in the store: the first process that failed, and why
LOOK_SECONDS = 0.1


class Team:
    """One process among those of a run. Every method that exchanges something has to be called by all of them.

    Args:
        rank: number of this process, from 0; the first alone writes and speaks.
        size: how many there are.
        local_rank: its number among those of this machine.
        local_size: how many this machine has.
    """

    def __init__(self, *, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.local_size = local_size
        self.store = open_store() if size > 1 else None  # torchrun keeps it for all processes

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and speaks for all."""
        return self.rank == 0

    @contextlib.contextmanager
    def first_alone(self, block: str) -> Iterator[None]:
        """Let the first process go through a block, of any duration, before the others enter it.

        Args:
            block: a name that is used once in a run.
        """
        while self.store and not self.is_first and not self.store.check([f"salad/{block}"]):
            time.sleep(LOOK_SECONDS)
        yield
        if self.store and self.is_first:
            self.store.set(f"salad/{block}", "done")

    def connect(self, device: torch.device) -> None:
        """Open the channels: NCCL between GPUs, gloo for all that lies on the CPU."""
        if self.size == 1:
            return
        import torch.distributed as dist

        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            timeout=TIMEOUT,
            device_id=device if device.type == "cuda" else None,
        )
        logger.info("%d processes, %d on this machine", self.size, self.local_size)

    def joined(self, parts: list[T]) -> list[T]:
        """What each process made of its part of every batch, in the order of the batches, then of the ranks.

        Args:
            parts: one a batch; tensors lie on the CPU.
        """
        if self.size == 1:
            return parts
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, parts)
        return [parts[i] for i in range(max(map(len, found))) for parts in found if i < len(parts)]

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, for all of them; tensors lie on the CPU."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        made = [make() if self.is_first else None]
        dist.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def agree(self, received: signal.Signals | None) -> signal.Signals | None:
        """A signal that any of the processes has received, the same for all; also a place where all wait."""
        if self.size == 1:
            return received
        import torch
        import torch.distributed as dist

        number = torch.tensor(int(received or 0))
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return signal.Signals(int(number)) if number else None

    def gather(self, tensor: Tensor, sizes: list[int]) -> Tensor:
        """The rows of all processes, one after the other: (sizes[rank], ...) -> (sum(sizes), ...), without gradient."""
        if self.size == 1:
            return tensor.detach()
        import torch
        import torch.distributed as dist

        missing = max(sizes) - len(tensor)  # all have to send as much
        padded = torch.cat([tensor.detach(), tensor.new_zeros(missing, *tensor.shape[1:])])
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def weight(self, sizes: list[int]) -> float:
        """Of a mean over the images of this process, so that DDP's mean over processes is the mean over all images."""
        return sizes[self.rank] * self.size / sum(sizes)

    def means(self, terms: dict[str, Tensor], sizes: list[int]) -> dict[str, Tensor]:
        """Means over the images of all processes, from the means over those of each, by name; without gradient."""
        if self.size == 1:
            return terms
        import torch
        import torch.distributed as dist

        values = torch.stack([term.detach() for term in terms.values()]) * (self.weight(sizes) / self.size)
        dist.all_reduce(values)
        return dict(zip(terms, values, strict=True))

    def share_buffers(self, network: nn.Module) -> None:
        """Take over the first process's running statistics, so that all evaluate the network that is saved."""
        if self.size == 1:
            return
        import torch.distributed as dist

        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)

    def leave(self) -> None:
        """End in good order, once all are here."""
        if self.size == 1:
            return
        import torch.distributed as dist

        self.agree(None)
        dist.destroy_process_group()

    def end(self, message: str, status: int) -> NoReturn:
        """Say why the run ends, once for all processes, and end this one; torchrun ends the others.

        The interpreter is not wound up: open channels to processes that are gone could keep it for ever.
        """
        if self.store is None:
            if message:
                click.echo(message, err=True)
            sys.exit(status)
        own = first = f"process {self.rank}: {message}"
        with contextlib.suppress(RuntimeError):  # the store is gone, and with it whoever could have spoken
            first = self.store.compare_set(END, "", own).decode()
        if first != own:
            logger.error("%s", first, extra={"only_in_file": True})
        elif message:
            print(message, file=sys.__stderr__, flush=True)
        _tell_torchrun(message if first == own else first)
        logging.shutdown()
        os._exit(status)

    def how_to(self, command: str) -> str:
        """A command line with the launcher in front, as this run was started."""
        if self.size == 1:
            return f"python {command}"
        num_machines = self.size // self.local_size
        machines = f"--nnodes={num_machines} " if num_machines > 1 else ""
        return f"torchrun {machines}--nproc_per_node={self.local_size} {command}"


SOLO = Team()


def join() -> Team:
    """The team that torchrun's environment variables tell of; without them, or with one process, a team of one."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, size, local_rank, local_size = (int(os.environ[name]) for name in names)
    except (KeyError, ValueError):
        return SOLO
    if size == 1:
        return SOLO
    team = Team(rank=rank, size=size, local_rank=local_rank, local_size=local_size)
    if rank > 0:
        mute()
    return team


def open_store() -> Store:
    """A connection to the store that torchrun keeps, as its environment variables say.

    Raises:
        InputError: there is none.
    """
    from torch.distributed.rendezvous import rendezvous

    try:
        store: Store = next(iter(rendezvous("env://", timeout=CONNECT_TIMEOUT)))[0]
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"RANK and WORLD_SIZE are set, as by torchrun, but the store that it keeps cannot be reached: {reason}"
        ) from None
    return store


def mute() -> None:
    """Silence this process: bars, messages, warnings and results come from the first one alone."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def mute_all_but_one_a_machine() -> None:
    """Before the processes know of each other, a mistyped option is said once a machine."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        mute()


def _tell_torchrun(message: str) -> None:
    """Give torchrun's own report the cause, where it would say that there is none."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        content = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(content), encoding="utf-8")


def is_lost_peer(error: Exception) -> bool:
    """Whether an exchange failed because another process is gone."""
    if "torch.distributed" not in sys.modules:
        return False
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
