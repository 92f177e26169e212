"""The device to compute on, and the seeds."""

import os
import random

import numpy as np
import torch

from salad.distributed import SOLO, Team
from salad.errors import InputError


def choose_device(name: str, *, team: Team = SOLO) -> torch.device:
    """The device of this name; ``auto`` takes cuda, else mps, else the CPU. Every process of a team has its own GPU.

    Raises:
        InputError: the name is unknown, or this machine lacks the device.
    """
    if team.size > 1:
        name = _own_device(name, team)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device is '{name}', but must be auto, cpu, cuda, cuda:N or mps") from None
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in available:
        raise InputError(f"--device is '{name}', but must be auto, cpu, cuda, cuda:N or mps")
    count = available[device.type]
    if (device.index or 0) >= count:
        raise InputError(
            f"--device is '{name}', but there are {count} {device.type} devices here; --device auto takes what is there"
        )
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def _own_device(name: str, team: Team) -> str:
    """The device of one process of several."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(
            f"--device is '{name}', but torchrun started {team.size} processes, each with a device of its own: "
            "leave it out, or use cuda or cpu"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return "cpu" if name == "auto" else name
    if team.local_size > torch.cuda.device_count():
        raise InputError(
            f"torchrun started {team.local_size} processes on a machine with {torch.cuda.device_count()} GPUs: "
            "--nproc_per_node must not be larger, or use --device cpu"
        )
    return f"cuda:{team.local_rank}"


def draw_seed(seed: int) -> int:
    """The seed itself, or a fresh one for -1."""
    return random.SystemRandom().randrange(2**31) if seed == -1 else seed


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed python, numpy and torch; with `deterministic`, allow only algorithms that repeat bit by bit."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
