"""Backbones of the library timm, `timm:NAME[:BLOCK]`: convolutional networks and vision transformers."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salad.errors import InputError, printable, refuse_shortage
from salad.networks.weight_files import GIVE, WeightSource, fetch_advice, fill
from salad.packages import install_command

PREFIX = "timm:"
MOST_STRIDE = 16  # of the block that is taken unless one is named: the grid of the other backbones
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # names of the weights on the hub, the first that is there
NUM_CLOSE = 3  # names that a message suggests


class TimmBackbone(nn.Module):
    """Network of timm up to one of its blocks, in eval mode, without gradients; checkpoints do not contain it.

    The blocks are what timm calls features: the stages of a convolutional network, or the transformer blocks of a
    vision transformer, whose patch tokens, behind its last norm, become a grid. Images are enlarged to a multiple of
    the block's stride (the patch size of a vision transformer), or resized to the only size that the network takes.

    Args:
        name: name of a model of timm, with or without a tag.
        block: number of the block; None for the last one of a stride of at most 16.

    Attributes:
        name: `timm:NAME:BLOCK`.
        digest: SHA-256 of the tensors in use, see `Backbone`.

    Raises:
        InputError: timm has no such model, or the model has no such block.
    """

    digest = ""
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, block: int | None) -> None:
        super().__init__()
        self.model = _create(name)
        strides = [int(level["reduction"]) for level in self.model.feature_info]
        if block is None:
            block = max((i for i, stride in enumerate(strides) if stride <= MOST_STRIDE), default=len(strides) - 1)
        if block >= len(strides):
            raise InputError(f"--backbone {PREFIX}{name}:{block}: {name} has the blocks 0 to {len(strides) - 1}")
        self.name, self.block, self.stride = f"{PREFIX}{name}:{block}", block, strides[block]
        self.is_transformer = len({*strides}) == 1 < len(strides)  # all blocks of one grid
        self.side = 0
        for part in ("mean", "std"):
            self.register_buffer(part, torch.tensor(self.model.pretrained_cfg[part]).view(3, 1, 1), persistent=False)

    def load(self, state: Mapping[str, Tensor], *, size: int) -> None:
        """Fill the network from a state dict of timm or of its authors, drop what is behind the block, and set a size.

        Args:
            state: tensors by name; those that are not used may be missing.
            size: size of the images, in pixels a side.

        Raises:
            InputError: a tensor is missing or does not fit, or the network takes no images of this size.
        """
        adapt = getattr(sys.modules[type(self.model).__module__], "checkpoint_filter_fn", None)
        if adapt is not None:
            try:
                state = adapt(dict(state), self.model)
            except Exception as error:  # one of another network can raise anything
                refuse_shortage(error, self.name)
                reason = f"{type(error).__name__} {printable(error)[:100]}"
                raise InputError(f"its tensors are of another network ({reason})") from None
        self.model.prune_intermediate_layers([self.block], prune_norm=not self.is_transformer, prune_head=True)
        self.digest = fill(self.model, state)
        self._fit_to(size)

    def _fit_to(self, size: int) -> None:
        """Prepare the network for images of a size, and try it."""
        self.side = -(-size // self.stride) * self.stride
        try:
            if self.model.pretrained_cfg.get("fixed_input_size"):
                if hasattr(self.model, "set_input_size"):
                    self.model.set_input_size(img_size=self.side)
                else:
                    self.side = int(self.model.pretrained_cfg["input_size"][-1])
            self.eval().requires_grad_(requires_grad=False)
            maps = self.patch_features(torch.zeros(1, 3, size, size))
            if maps.dim() != 4:
                raise ValueError("features without a grid")
        except Exception as error:  # a network can raise anything at a size that does not suit it
            refuse_shortage(error, self.name)
            reason = f"{type(error).__name__} {printable(error)[:100]}".strip()
            raise InputError(f"it takes no images of {size} pixels ({reason}): choose another --isize") from None

    def patch_features(self, images: Tensor) -> Tensor:
        """Compute patch features (B, C, side / stride, side / stride) of images (B, 3, S, S) in [-1, 1]."""
        colours = ((images + 1) / 2 - self.mean) / self.std
        if (size := images.shape[-1]) != self.side:
            shrinks = self.side < size
            colours = F.interpolate(colours, size=(self.side, self.side), mode="bilinear", antialias=shrinks)
        (maps,) = self.model.forward_intermediates(
            colours, indices=[self.block], norm=self.is_transformer, stop_early=True, intermediates_only=True
        )
        return maps  # type: ignore[no-any-return]


def check_installed(name: str) -> None:
    """Raise `InputError` if timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        raise InputError(f"--backbone {name} needs a package that is not installed: {install_command('timm')}")


def split_name(name: str) -> tuple[str, int | None]:
    """Split `timm:NAME[:BLOCK]` into the name of the model and the number of the block; None for the default."""
    model, _, block = name.removeprefix(PREFIX).partition(":")
    return model, int(block) if block else None


def build(name: str) -> TimmBackbone:
    """Build a backbone with random weights, see `TimmBackbone`."""
    check_installed(name)
    return TimmBackbone(*split_name(name))


def find_source(name: str) -> WeightSource:
    """Find the weights of a backbone in the cache of the hub that timm takes them from.

    Raises:
        InputError: timm is not installed, or has no such model.
    """
    check_installed(name)
    model, _ = split_name(name)
    check_model(model)
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model)
    repository, address = (config.hf_hub_id, config.url) if config else (None, None)
    if not repository:
        return WeightSource(advice=f"fetch {address} and {GIVE}" if address else f"timm has none of this name: {GIVE}")
    held = (try_to_load_from_cache(repository, file) for file in HUB_FILES)
    return WeightSource(
        file=next((Path(path) for path in held if isinstance(path, str)), None),
        advice=fetch_advice(hf_hub_url(repository, HUB_FILES[0])),
        fetch=lambda: _fetch(repository),
    )


def _fetch(repository: str) -> Path:
    """Download the first of the `HUB_FILES` that a repository has, to the cache of the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(repository, HUB_FILES[0]))
    except EntryNotFoundError:
        return Path(hf_hub_download(repository, HUB_FILES[1]))


def check_model(name: str) -> None:
    """Raise `InputError`, with names that are close, if timm has no model of a name."""
    import timm

    known = {*timm.list_models(), *timm.list_pretrained()}
    if name not in known:
        close = difflib.get_close_matches(name, sorted(known), n=NUM_CLOSE)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists those it has"
        raise InputError(f"--backbone {PREFIX}{name}: timm {timm.__version__} has no model of this name; {hint}")


def _create(name: str) -> Any:
    """Make a network of timm with random weights and no classifier."""
    import timm

    check_model(name)
    model = timm.create_model(name, pretrained=False, num_classes=0)
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "prune_intermediate_layers"):
        raise InputError(f"--backbone {PREFIX}{name}: timm {timm.__version__} gives no patch features of this model")
    return model
