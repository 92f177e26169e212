"""Compile a network, if the machine supports it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)


def compile_network(network: Network, device: torch.device) -> bool:
    """Compile `forward` and `encode` of a network at their first call; the names of its tensors do not change.

    Args:
        network: network on the device.
        device: device to compile for.

    Returns:
        True if compiling is possible; otherwise a warning is logged and the network does not change.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(2, device=device))
    except Exception as error:  # a shortage, a missing C++ compiler, Python headers or Triton raise different errors
        reason = str(error).strip().partition("\n")[0]
        logger.warning("--compile is not possible here, so the network runs uncompiled: %s", reason)
        return False
    network.compile()
    network.encode = torch.compile(network.encode)  # type: ignore[method-assign]
    return True
