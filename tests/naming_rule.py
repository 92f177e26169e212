"""Tensors that follow from their names alone, so that a network can be checked against recorded numbers."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch

CHECKPOINT_KEYS = json.loads((Path(__file__).parent / "checkpoint_keys.json").read_text())
GAINS = {"unet": 2.0, "CXR_resnet18": 0.5}


def tensor_from_name(name, shape, *, gain):
    """A float64 tensor of pseudo-random numbers drawn from its name (`num_batches_tracked`: an int64 zero)."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    h = (np.arange(math.prod(shape), dtype=np.uint64) + zlib.crc32(name.encode())) % 2**32
    for _ in range(2):
        h = ((h >> 16) ^ h) * 0x45D9F3B % 2**32
    h = (h >> 16) ^ h
    s = torch.from_numpy(h / 2.0**31 - 1).reshape(shape)
    if name.endswith("running_mean"):
        return 0.1 * s
    if name.endswith("running_var"):
        return 1 + 0.1 * s.abs()
    if len(shape) == 1:
        return 1 + 0.1 * s if name.endswith("weight") else 0.1 * s
    return s * math.sqrt(3 * gain / math.prod(shape[1:]))


def state_from_names(net_name):
    """Every tensor of a published file, those that are never used included: {name: tensor}."""
    shapes = CHECKPOINT_KEYS[net_name]
    return {name: tensor_from_name(name, shape, gain=GAINS[net_name]) for name, shape in shapes.items()}
