"""Load initial weights of a ResNet-18 trunk, from torchvision's ImageNet weights or from a file."""

import contextlib
import logging
import os
import pickle
import socket
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, ResNet18_Weights

from salad.errors import InputError
from salad.networks.weight_files import fill, read_state

logger = logging.getLogger(__name__)

FETCH_TIMEOUT_SECONDS = 30
FETCH_ERRORS = (OSError, RuntimeError, EOFError, pickle.UnpicklingError)  # of no network, or of a damaged file
IMAGENET = ResNet18_Weights.IMAGENET1K_V1


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
        try:
            state = read_state(Path(source))
        except InputError as error:
            raise InputError(f"--weights {error}; give a file of weights, imagenet or none") from None
    layers = nn.ModuleDict({name: layer for name, layer in trunk.named_children() if name != "fc"})
    try:
        fill(layers, state)
    except InputError as error:
        raise InputError(f"--weights {source}: not the weights of a ResNet-18: {error}") from None
    return source


def imagenet_file() -> Path:
    """Name the file in torchvision's cache that holds, or will hold, the ImageNet weights."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if folder.parts[0] == "~":  # a user without a home, for whom torch would make a folder of this name
        folder = Path(tempfile.gettempdir()) / f"torch-{os.getuid()}"
    return folder / Path(IMAGENET.url).name


def download_imagenet() -> dict[str, Tensor]:
    """Download the ImageNet weights to `imagenet_file`, or read them there; any of `FETCH_ERRORS` may be raised."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(
        FETCH_TIMEOUT_SECONDS
    )  # a cluster node without internet access would otherwise wait for minutes
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch prints a line about the download
            return dict(IMAGENET.get_state_dict(progress=False, check_hash=True, model_dir=str(imagenet_file().parent)))
    finally:
        socket.setdefaulttimeout(timeout)


def _fetch_imagenet() -> dict[str, Tensor] | None:
    """Download the ImageNet weights, or warn and return None."""
    try:
        return download_imagenet()
    except FETCH_ERRORS as error:
        logger.warning(
            "ImageNet weights could not be fetched (%s): the encoder starts from random weights. To use them, put %s "
            "into %s, or pass --weights FILE; --weights none silences this.",
            error,
            IMAGENET.url,
            imagenet_file().parent,
        )
        return None
