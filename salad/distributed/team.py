"""Exchange values between the processes of a run that torchrun started; a single process is a team of one.

torch is imported late, because --help and a mistyped option must not wait for it.
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

from salad.errors import InputError, cut, printable_lines, say

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch._C._distributed_c10d import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # limit for one exchange
CONNECT_TIMEOUT = timedelta(minutes=5)
END = "salad/end"  # key in the store: number and message of the process that failed first
LOOK_SECONDS = 0.1  # interval between two looks at the store


class Team:
    """One process and its links to the other processes of a run.

    All processes have to call the methods that exchange values, in the same order.

    Args:
        rank: number of this process, from 0; only process 0 writes files and prints.
        size: number of processes.
        local_rank: number of this process on its machine, from 0.
        local_size: number of processes on this machine.
    """

    def __init__(self, *, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.local_size = local_size
        self.store = open_store() if size > 1 else None  # torchrun keeps it for all processes

    @property
    def is_first(self) -> bool:
        """True for process 0, which writes the files and prints for all."""
        return self.rank == 0

    @contextlib.contextmanager
    def first_alone(self, block: str) -> Iterator[None]:
        """Let the first process run a block, for any time, before the others enter it.

        Args:
            block: name of the block, used only once in a run.
        """
        while self.store and not self.is_first and not self.store.check([f"salad/{block}"]):
            time.sleep(LOOK_SECONDS)
        yield
        if self.store and self.is_first:
            self.store.set(f"salad/{block}", "done")

    def connect(self, device: torch.device) -> None:
        """Connect the processes: NCCL between GPUs, gloo for tensors on the CPU."""
        if self.size == 1:
            return
        import torch.distributed as dist

        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            timeout=TIMEOUT,
            device_id=device if device.type == "cuda" else None,
        )
        logger.info("processes: %d, %d on this machine", self.size, self.local_size)

    def joined(self, parts: list[T]) -> list[T]:
        """Join the results of all processes, ordered by batch and then by rank.

        Args:
            parts: results of this process, one a batch; tensors lie on the CPU.

        Returns:
            The results of all processes, the same list on each.
        """
        if self.size == 1:
            return parts
        import torch.distributed as dist

        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, parts)
        return [parts[i] for i in range(max(map(len, gathered))) for parts in gathered if i < len(parts)]

    def from_first(self, make: Callable[[], T]) -> T:
        """Make a value in the first process and send it to all; tensors lie on the CPU."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        made = [make() if self.is_first else None]
        dist.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def agree(self, received: signal.Signals | None) -> signal.Signals | None:
        """Share a signal that any process has received, so that all return the same; each waits here for the others.

        Args:
            received: signal that this process has received; None for none.

        Returns:
            The signal of largest number that any process has received; None for none.
        """
        if self.size == 1:
            return received
        import torch
        import torch.distributed as dist

        number = torch.tensor(int(received or 0))
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return signal.Signals(int(number)) if number else None

    def gather(self, tensor: Tensor, sizes: list[int]) -> Tensor:
        """Concatenate the rows of all processes: (sizes[rank], ...) -> (sum(sizes), ...), without gradient.

        Args:
            tensor: rows of this process.
            sizes: number of rows of each process.
        """
        if self.size == 1:
            return tensor.detach()
        import torch
        import torch.distributed as dist

        missing = max(sizes) - len(tensor)  # all_gather needs equal shapes
        padded = torch.cat([tensor.detach(), tensor.new_zeros(missing, *tensor.shape[1:])])
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def weight(self, sizes: list[int]) -> float:
        """Weight of this process's mean loss, so that DDP's mean over processes is the mean over all images.

        Args:
            sizes: number of images of each process.
        """
        return sizes[self.rank] * self.size / sum(sizes)

    def means(self, terms: dict[str, Tensor], sizes: list[int]) -> dict[str, Tensor]:
        """Combine means over the images of each process to means over all images, without gradient.

        Args:
            terms: means over the images of this process, by name.
            sizes: number of images of each process.

        Returns:
            The means over the images of all processes, by name.
        """
        if self.size == 1:
            return terms
        import torch
        import torch.distributed as dist

        values = torch.stack([term.detach() for term in terms.values()]) * (self.weight(sizes) / self.size)
        dist.all_reduce(values)
        return dict(zip(terms, values, strict=True))

    def share_buffers(self, network: nn.Module) -> None:
        """Copy the first process's running statistics to all, so that all evaluate the network that is saved."""
        if self.size == 1:
            return
        import torch.distributed as dist

        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)

    def leave(self) -> None:
        """Disconnect from the others, after all processes have arrived here."""
        if self.size == 1:
            return
        import torch.distributed as dist

        self.agree(None)
        dist.destroy_process_group()

    def end(self, message: str, status: int) -> NoReturn:
        """Report why the run ends, once for all processes, and end this process; torchrun ends the others.

        In a team, the interpreter is not shut down: open connections to ended processes could block it for ever.

        Args:
            message: reason to report; empty for none.
            status: exit status of this process.
        """
        if self.store is None:
            if message:
                say(message)
            sys.exit(status)
        own = first = f"process {self.rank}: {message}"
        with contextlib.suppress(RuntimeError):  # the store has ended: this process reports its own message
            first = self.store.compare_set(END, "", own).decode()
        if first != own:
            logger.error("%s", first, extra={"only_in_file": True})
        elif message:
            print(cut(printable_lines(message)), file=sys.__stderr__, flush=True)
        _tell_torchrun(message if first == own else first)
        logging.shutdown()
        os._exit(status)

    def how_to(self, command: str) -> str:
        """Complete a command line with the launcher that started this run, python or torchrun."""
        if self.size == 1:
            return f"python {command}"
        num_machines = self.size // self.local_size
        machines = f"--nnodes={num_machines} " if num_machines > 1 else ""
        return f"torchrun {machines}--nproc_per_node={self.local_size} {command}"


SOLO = Team()


def join() -> Team:
    """Join the team that torchrun's environment variables describe; without them, or with one process, a team of one.

    Raises:
        InputError: torchrun's store cannot be reached.
    """
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
    """Connect to torchrun's key-value store, at the address in its environment variables.

    Raises:
        InputError: the store cannot be reached.
    """
    from torch.distributed.rendezvous import rendezvous

    try:
        store: Store = next(iter(rendezvous("env://", timeout=CONNECT_TIMEOUT)))[0]
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"RANK and WORLD_SIZE are set, as by torchrun, but torchrun's store cannot be reached: {reason}"
        ) from None
    return store


def mute() -> None:
    """Silence this process: progress bars, messages, warnings and results come only from the first."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def mute_all_but_one_a_machine() -> None:
    """Silence all but the first process of each machine, so that a mistyped option is reported once a machine."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        mute()


def _tell_torchrun(message: str) -> None:
    """Write the cause of the failure to the file from which torchrun builds its own report."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        content = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(content), encoding="utf-8")


def is_lost_peer(error: Exception) -> bool:
    """Detect an exchange that failed because another process has ended."""
    if "torch.distributed" not in sys.modules:
        return False
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
