"""The device to compute on, and the seeds."""

import os
import random

import numpy as np
import torch

from salad.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device of this name; ``auto`` takes cuda, else mps, else the CPU.

    Raises:
        InputError: the name is unknown, or this machine lacks the device.
    """
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
    return device


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
