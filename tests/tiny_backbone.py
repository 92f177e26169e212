"""A frozen network of a few channels, in place of one that is not installed everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from running import tiny_unet

WITH_BACKBONE = ["--backbone", "efficientnet_lite0"]
SCORES = {
    "local": ["--score", "local"],
    "backbone": ["--score", "backbone", *WITH_BACKBONE],
    "fused": ["--score", "fused", *WITH_BACKBONE, "--fuse", "local", "--fuse", "backbone", "--fuse", "knn"],
}


class TinyBackbone(torch.nn.Module):
    """One convolution, with the same weights each time."""

    name, digest = "efficientnet_lite0", "tiny"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("kernels", torch.randn(6, 3, 16, 16, generator=generator) / 10)

    def patch_features(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (B, 6, S/16, S/16) of images (B, 3, S, S)."""
        return torch.nn.functional.conv2d(images, self.kernels, stride=16).relu()


@contextmanager
def tiny_networks() -> Iterator[None]:
    """Both networks are tiny, and run on one thread."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tiny_unet(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("salad.scoring.patch_memories.load_backbone", lambda _, device, **__: TinyBackbone().to(device))
        patch.setattr("salad.training.run.check_backbone", lambda *_: None)
        yield
    torch.set_num_threads(num_threads)
