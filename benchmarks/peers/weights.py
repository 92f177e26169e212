"""Weights of EfficientNet-Lite0 for timm, from the package that the program itself takes them from.

They are written as a cache of the Hugging Face hub, which timm reads without a network: `pretrained=True` then works
as it does for its users.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from salad.errors import InputError
from salad.networks.backbones import load_backbone
from salad.networks.efficientnet_lite0 import CONTRAST, find_source
from salad.networks.weight_files import read_state

LITE0 = "tf_efficientnet_lite0"
BLOCK = "blocks.4"  # ends with the block whose features the program compares, at a sixteenth of the side
INDEX = 3  # of that block among the feature maps of timm
TOLERANCE = 1e-4  # share of the largest feature by which the two implementations may differ


def use_hub(folder: Path) -> None:
    """Write the weights unless it is done, and set the environment in which timm finds them, here and in children.

    Raises:
        InputError: the package with the weights is not installed.
    """
    os.environ |= {"HF_HUB_CACHE": str(folder.resolve()), "HF_HUB_OFFLINE": "1"}  # before timm is imported
    snapshot = folder / f"models--timm--{LITE0}.in1k"
    file = snapshot / "snapshots/local/model.safetensors"
    if not file.exists():
        import timm
        from safetensors.torch import save_file

        source = find_source("efficientnet_lite0")
        if source.file is None:
            raise InputError(f"Lite0 needs weights, which are not on this machine: {source.advice}")
        names = timm.create_model(LITE0).state_dict()
        held = read_state(source.file)
        # both list the layers in the order in which an image passes through them
        state = {name: value.contiguous() for name, value in zip(names, held.values(), strict=True)}
        file.parent.mkdir(parents=True, exist_ok=True)
        (snapshot / "refs").mkdir(exist_ok=True)
        (snapshot / "refs/main").write_text("local", encoding="ascii")
        save_file(state, file)


def check_equal() -> float:
    """Compare the features of timm and of the program on one image.

    Returns:
        The largest difference, as a share of the largest feature.

    Raises:
        ValueError: they differ by more than `TOLERANCE`.
    """
    import timm

    image = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ours = load_backbone("efficientnet_lite0", torch.device("cpu"), size=160)
    theirs = timm.create_model(LITE0, pretrained=True, features_only=True, out_indices=[INDEX]).eval()
    with torch.inference_mode():
        first, second = ours.patch_features(image / CONTRAST), theirs(image)[0]
    difference = float((first - second).abs().max() / first.abs().max())
    if difference > TOLERANCE:
        raise ValueError(f"features of timm and of the program differ by {difference:.1e} of the largest")
    return difference
