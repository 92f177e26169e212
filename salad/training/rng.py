"""State of the random generators, for checkpoints."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def rng_state() -> Mapping[str, Any]:
    """Collect the state of every random generator, in types that a weights-only load accepts."""
    return {
        "python": random.getstate(),
        "numpy": _numpy_state(),
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore every random generator to a state of `rng_state`."""
    random.setstate(_tuples(state["python"]))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        number = torch.cuda.current_device() if len(state["cuda"]) > 1 else 0  # older files hold a state for every GPU
        torch.cuda.set_rng_state(state["cuda"][min(number, len(state["cuda"]) - 1)])


def _tuples(value: Any) -> Any:
    """Convert lists to tuples at every depth, as `random.setstate` requires."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _numpy_state() -> list[Any]:
    """Collect the state of NumPy's global generator."""
    state = np.random.get_state(legacy=False)
    keys = torch.from_numpy(state["state"]["key"].astype(np.int64))
    return ["MT19937", keys, state["state"]["pos"], state["has_gauss"], state["gauss"]]
