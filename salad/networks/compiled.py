"""Compiling a network, where the machine can."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


def compile_network(network: Network, device: torch.device) -> bool:
    """Let torch compile both ways of calling a network at their first use; names of its tensors stay.

    Args:
        network: lies on the device.
        device: to compile for.

    Returns:
        Whether it could be; else a warning is logged, and the network stays as it is.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(2, device=device))
    except Exception as error:  # no C++ compiler, no Python headers, no Triton: each raises its own
        reason = str(error).strip().partition("\n")[0]
        logger.warning("--compile is not possible here, so the network runs uncompiled: %s", reason)
        return False
    network.compile()
    network.encode = torch.compile(network.encode)  # type: ignore[method-assign]
    return True
