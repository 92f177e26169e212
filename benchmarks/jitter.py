"""Jittered copies of test images, with other framing, exposure and focus, to measure the robustness of scores."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from salad.datasets.augment import expose, uniform
from salad.datasets.synthetic import sharpen_or_blur
from salad.images.align import warp
from salad.images.decoder import Decoder
from salad.samples import Split

SIDE = 256  # pixels of the copies
SCALE, SHIFT = 0.12, 0.08  # largest logarithm of a scale; largest shift, as a share of the side
GAMMA, CONTRAST, BRIGHTNESS = (0.75, 1.33), (0.8, 1.2), 0.08
FOCUS = 1.0  # largest strength of the blur, and of the sharpening
FOLDERS = "0.normal", "1.abnormal"
SEED = 0


def write_jittered(split: Split, folder: Path) -> None:
    """Write a jittered copy of every image to class folders in ``folder/test``, always with the same jitter.

    Args:
        split: images to copy.
        folder: output folder; if it exists, nothing is written.
    """
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    decoder = Decoder(isize=SIDE, resize="squash")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for number, sample in enumerate(split.samples):
            class_folder = unfinished / "test" / FOLDERS[sample.label]
            class_folder.mkdir(parents=True, exist_ok=True)
            pixels = jitter(torch.from_numpy(decoder.read(sample).copy())[None, None])
            Image.fromarray(pixels[0, 0].numpy()).save(class_folder / f"{number:06}.png")
    unfinished.rename(folder)


def jitter(grey: Tensor) -> Tensor:
    """Change framing, exposure and focus of each image at random; the border is repeated outside.

    Args:
        grey: images, (B, 1, S, S), uint8.

    Returns:
        Jittered images, (B, 1, S, S), uint8.
    """
    images = grey / 255
    drawn = [uniform(images, -bound, bound).flatten() for bound in (SCALE, SCALE, 2 * SHIFT, 2 * SHIFT)]
    images = warp(images, torch.stack(drawn, dim=1))
    images = expose(images, gamma=GAMMA, contrast=CONTRAST, brightness=BRIGHTNESS)
    images = sharpen_or_blur(images, low=-FOCUS, high=FOCUS)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
