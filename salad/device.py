"""Choose the device and number formats to compute with, and set memory allocation and seeds."""

import ctypes
import os
import random

import numpy as np
import torch

from salad.distributed.team import SOLO, Team
from salad.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h
NO_LIMIT = -1
VISIBLE = "CUDA_VISIBLE_DEVICES"  # environment variable that hides GPUs from a process
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, *, team: Team = SOLO) -> torch.device:
    """Choose a device by name.

    Args:
        name: ``auto`` (cuda, else mps, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        team: processes of the run; each of several gets its own GPU.

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
        hidden = os.environ.get(VISIBLE) if device.type == "cuda" else None
        seen = "" if hidden is None else f" with {VISIBLE}={hidden!r}"
        raise InputError(
            f"--device is '{name}', but this machine has {count} {device.type} devices{seen}; "
            "--device auto chooses a device"
        )
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def _own_device(name: str, team: Team) -> str:
    """Choose the name of the device for one process of several.

    Raises:
        InputError: the name is not allowed for several processes, or this machine has too few GPUs.
    """
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
    """Draw a fresh seed in place of -1; any other seed is returned unchanged."""
    return random.SystemRandom().randrange(2**31) if seed == -1 else seed


def amp_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """Choose the number format of mixed-precision training; None for float32.

    Args:
        name: ``auto`` (bf16 on a GPU that supports it, else off), ``bf16``, ``fp16`` or ``off``.
        device: device of the network.

    Raises:
        InputError: the device does not support this format.
    """
    has_bf16 = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(False))
    if name == "auto":
        name = "bf16" if device.type == "cuda" and has_bf16 else "off"
    if name != "off" and device.type not in ("cpu", "cuda"):
        raise InputError(f"--amp is {name}, but {device.type} takes off only")
    if name == "bf16" and not has_bf16:
        raise InputError("--amp is bf16, but this GPU lacks it: use fp16, or off")
    return AMP_DTYPES.get(name)


def keep_freed_memory() -> bool:
    """Let malloc keep freed memory for the next step and not return it to the system.

    By default, glibc maps each block above 32 MiB separately and unmaps it when it is freed. A training step frees
    gigabytes of such blocks, and the system has to clear all of their pages again, which takes half of the step's
    time. With this setting, the process holds its peak memory all the time: 0.5 GB more in a step of `unet` at 256 px
    and batch 16.

    Returns:
        True if malloc accepted the setting: with glibc, that is, on most Linux systems.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # TypeError: Windows has no library of the process itself
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NO_LIMIT))


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed python, numpy and torch, and choose between fast and deterministic algorithms.

    On a GPU, convolutions may round their inputs to TF32 (10 bits). Matrix products, which memory, softmax and
    scores use, never do.

    Args:
        seed: seed of all generators.
        deterministic: whether to allow only algorithms whose results repeat bit by bit, without TF32.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = not deterministic
    torch.backends.cuda.matmul.allow_tf32 = False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
