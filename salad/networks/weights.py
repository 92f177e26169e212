"""Load initial weights of a ResNet-18 trunk, from torchvision's ImageNet weights or from a file."""

import contextlib
import logging
import pickle
import socket
import sys
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import ResNet, ResNet18_Weights

from salad.errors import InputError
from salad.tensor_files import load_tensors

logger = logging.getLogger(__name__)

FETCH_TIMEOUT_SECONDS = 30


def load_trunk(trunk: ResNet, source: str) -> str:
    """Load the weights of all layers of a ResNet-18 except the last.

    Args:
        trunk: network to fill; its `fc` does not change.
        source: ``imagenet`` (torchvision's cache or the internet) or the path of a ResNet-18 state dict.

    Returns:
        The source, or ``none`` if ImageNet weights could not be fetched.

    Raises:
        InputError: the file cannot be read, or does not hold the trunk's tensors.
    """
    if source == "imagenet":
        state = _fetch_imagenet()
        if state is None:
            return "none"
    else:
        state = _read_state(Path(source))
    own = {
        name: value
        for name, value in trunk.state_dict().items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")  # older files lack the counters
    }
    unfit = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
    if unfit:
        raise InputError(
            f"--weights {source}: not the weights of a ResNet-18: {unfit[0]} is missing or has another shape"
        )
    trunk.load_state_dict({name: state[name] for name in own}, strict=False)
    return source


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = load_tensors(path)
    except InputError as error:
        raise InputError(f"--weights {error}; give a file of weights, imagenet or none") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"--weights {path}: holds no plain state dict of tensors")
    return state


def _fetch_imagenet() -> dict[str, Tensor] | None:
    weights = ResNet18_Weights.IMAGENET1K_V1
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(
        FETCH_TIMEOUT_SECONDS
    )  # a cluster node without internet access would otherwise wait for minutes
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch prints a line about the download
            return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # no network, or a damaged file
        logger.warning(
            "ImageNet weights could not be fetched (%s): the encoder starts from random weights. To use them, put %s "
            "into %s, or pass --weights FILE; --weights none silences this.",
            error,
            weights.url,
            Path(torch.hub.get_dir()) / "checkpoints",
        )
        return None
    finally:
        socket.setdefaulttimeout(timeout)
