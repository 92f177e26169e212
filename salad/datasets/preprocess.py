"""From decoded pixels to what a network sees, for whole batches, on the device where the batch lies.

As in `normalize`, this happens when a batch is read and not before the cache, which serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salad.datasets.align import fit_to, reframe
from salad.datasets.normalize import normalize


@dataclass(frozen=True, kw_only=True, eq=False)
class Preprocessing:
    """Framing, then grey levels. By default nothing is changed.

    Attributes:
        kind: how grey levels are normalised.
        margin: pixels that are cut off along each border; images are decoded that much larger than a network sees them.
        mean_image: of `find_mean`, to whose framing images are brought; None leaves theirs.
    """

    kind: str = "fixed"
    margin: int = 0
    mean_image: Tensor | None = None

    def __call__(self, grey: Tensor) -> Tensor:
        """What a network sees of decoded images (B, 1, S0, S0), uint8: (B, 1, S, S), uint8, S = S0 - 2 * margin."""
        return normalize(self._window(grey, of=grey, margin=self.margin), self.kind)

    def frame(self, grey: Tensor) -> Tensor:
        """The same with nothing cut off: (B, 1, S0, S0), uint8."""
        return normalize(self._window(grey, of=grey, margin=0), self.kind)

    def mark(self, mask: NDArray[np.bool_], grey: Tensor) -> NDArray[np.bool_]:
        """What was marked in an image, in what a network sees of it.

        Args:
            mask: (S0, S0).
            grey: the decoded image, (1, S0, S0), uint8.

        Returns:
            (S, S).
        """
        levels = torch.from_numpy(mask.astype(np.uint8) * 255)[None, None].to(grey.device)
        found: NDArray[np.uint8] = self._window(levels, of=grey[None], margin=self.margin)[0, 0].cpu().numpy()
        marked: NDArray[np.bool_] = found >= 128
        return marked if marked.any() else found > 0  # as `read_mask` does

    def _window(self, pixels: Tensor, *, of: Tensor, margin: int) -> Tensor:
        """The part of `pixels` (B, 1, S0, S0), uint8, that shows what is to be seen of the images `of`."""
        if self.mean_image is None:
            inner = slice(margin, pixels.shape[-1] - margin)
            return pixels[:, :, inner, inner]
        params = fit_to(self.mean_image.to(of.device, non_blocking=True), of)
        return reframe(pixels.float(), params, margin=margin).round().to(torch.uint8)
