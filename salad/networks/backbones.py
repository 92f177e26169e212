"""Load frozen networks with pretrained weights, by name; only their patch features are used."""

from __future__ import annotations

import logging
import re
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from salad.errors import InputError, printable, refuse_shortage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from salad.networks.weight_files import WeightSource

logger = logging.getLogger(__name__)

OWN = {"efficientnet_lite0": "efficientnet_lite0", "resnet18": "frozen_resnet18"}  # modules by name
TIMM = re.compile(r"timm:[\w./-]+(:\d{1,4})?")
DOWNLOAD = "download"  # value of --backbone_weights that fetches them


class Backbone(Protocol):
    """Frozen network in eval mode.

    Attributes:
        name: name as in --backbone, with the block that is used if there are several.
        digest: SHA-256 of the names and values of its tensors, in hexadecimal digits; it tells weights apart.
    """

    name: str
    digest: str

    def patch_features(self, images: Tensor) -> Tensor:
        """Compute patch features (B, C, H, W) of images (B, 3, S, S) in [-1, 1]; mostly, H and W are S / 16."""


def check_name(name: str) -> None:
    """Raise `InputError` if a backbone is neither one of the program nor written as one of timm."""
    if name not in OWN and not TIMM.fullmatch(name):
        raise InputError(f"--backbone is '{name}', but must be {', '.join(OWN)} or timm:NAME[:BLOCK]")


def check_backbone(name: str | None, weights: str | None = None) -> None:
    """Check that the package and the weights of a backbone are on this machine, or are to be downloaded.

    Args:
        name: name of the backbone, or None.
        weights: value of --backbone_weights.

    Raises:
        InputError: a package is missing, there is no such model, or there are no weights.
    """
    if name is not None:
        _find_weights(name, weights, downloads=False)


def load_backbone(name: str, device: torch.device, *, weights: str | None = None, size: int) -> Backbone:
    """Load a backbone with its weights to a device.

    Args:
        name: ``efficientnet_lite0``, ``resnet18`` or ``timm:NAME[:BLOCK]``.
        device: device of the weights.
        weights: file of the weights, or ``download`` to fetch them unless they are on this machine; None takes those of
            the package of the extra `pretrained`, or of the cache of torchvision or timm.
        size: size of the images, in pixels a side.

    Returns:
        The backbone in eval mode, in channels-last layout.

    Raises:
        InputError: a package or the weights are missing, or do not fit.
    """
    import torch

    from salad.networks.weight_files import read_state

    path = _find_weights(name, weights, downloads=True)
    assert path is not None, "found or downloaded"
    # random initial weights must not advance the generators of the run, and what a library warns of concerns no user
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _module_of(name).build(name)
        try:
            network.load(read_state(path), size=size)
        except InputError as error:
            raise InputError(f"--backbone {name} and its weights {path}: {error}") from None
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


def _module_of(name: str) -> Any:
    """Import the module of a backbone, which has `find_source` and `build`."""
    return import_module(f"salad.networks.{OWN.get(name, 'timm_backbone')}")


def _find_weights(name: str, weights: str | None, *, downloads: bool) -> Path | None:
    """Find the file of the weights, or download it; None if it is still to be downloaded."""
    source: WeightSource = _module_of(name).find_source(name)
    if weights is not None and weights != DOWNLOAD:
        path = Path(weights)
        if not path.exists():
            raise InputError(f"{path}: there is no such file; --backbone_weights takes that of --backbone {name}")
        return path
    if source.file is not None:
        return source.file
    if weights is None or source.fetch is None:
        raise InputError(f"--backbone {name} needs weights, which are not on this machine: {source.advice}")
    return _downloaded(name, source) if downloads else None


def _downloaded(name: str, source: WeightSource) -> Path:
    """Download weights.

    Raises:
        InputError: they cannot be fetched.
    """
    assert source.fetch is not None, "checked before"
    logger.info("--backbone %s: downloading its weights", name)
    try:
        return source.fetch()
    except Exception as error:  # of whatever library fetches them
        refuse_shortage(error, name)
        reason = f"{type(error).__name__}: {printable(error)[:200]}"
        raise InputError(f"--backbone {name}: its weights cannot be downloaded ({reason}): {source.advice}") from None
