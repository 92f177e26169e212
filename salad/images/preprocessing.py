"""From decoded pixels to what a network sees, for whole batches, on the device where the batch lies.

As in `normalize`, this happens when a batch is read and not before the cache, which serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salad.images.align import find_inside, register, warp
from salad.images.normalize import normalize


@dataclass(frozen=True, kw_only=True, eq=False)
class Preprocessing:
    """Framing, then grey levels. By default nothing is changed.

    Attributes:
        kind: how grey levels are normalised.
        margin: pixels that are cut off along each border; images are decoded that much larger than a network sees them.
        template: of `build_template`, to whose framing images are brought; None leaves theirs.
    """

    kind: str = "fixed"
    margin: int = 0
    template: Tensor | None = None

    def __call__(self, grey: Tensor) -> Tensor:
        """What a network sees of decoded images (B, 1, S0, S0), uint8: (B, 1, S, S), uint8, S = S0 - 2 * margin."""
        return self.view(grey, self.fit(grey))

    def frame(self, grey: Tensor) -> Tensor:
        """The same with nothing cut off: (B, 1, S0, S0), uint8."""
        return self.view(grey, self.fit(grey), is_whole=True)

    def fit(self, grey: Tensor) -> Tensor | None:
        """How decoded images (B, 1, S0, S0), uint8, have to be framed, (B, 4); None where they are left as they are."""
        if self.template is None:
            return None
        return register(self.template.to(grey.device, non_blocking=True), grey)

    def view(self, grey: Tensor, params: Tensor | None, *, is_whole: bool = False) -> Tensor:
        """Decoded images (B, 1, S0, S0), uint8, in a framing.

        Args:
            grey: the images.
            params: of `fit`.
            is_whole: whether nothing is cut off.

        Returns:
            (B, 1, S, S), uint8, or as large as they were.
        """
        return normalize(self._window(grey, params, margin=0 if is_whole else self.margin), self.kind)

    def find_seen(self, grey: Tensor, params: Tensor | None, *, is_whole: bool = False) -> Tensor | None:
        """Where a `view` shows the images, and not their repeated borders; arguments as there.

        Returns:
            1 or 0 at each pixel, (B, 1, S, S), float32; None where all of it does.
        """
        if params is None:
            return None
        return find_inside(params, side=grey.shape[-1], margin=0 if is_whole else self.margin)

    def mark(self, mask: NDArray[np.bool_], grey: Tensor, *, is_whole: bool = False) -> NDArray[np.bool_]:
        """What was marked in an image, in what a network sees of it.

        Args:
            mask: (S0, S0).
            grey: the decoded image, (1, S0, S0), uint8.
            is_whole: whether nothing is cut off.

        Returns:
            (S, S), or as large as it was.
        """
        levels = torch.from_numpy(mask.astype(np.uint8) * 255)[None, None].to(grey.device)
        window = self._window(levels, self.fit(grey[None]), margin=0 if is_whole else self.margin)
        found: NDArray[np.uint8] = window[0, 0].cpu().numpy()
        marked: NDArray[np.bool_] = found >= 128
        return marked if marked.any() else found > 0  # as `read_mask` does

    def _window(self, pixels: Tensor, params: Tensor | None, *, margin: int) -> Tensor:
        """The part of `pixels` (B, 1, S0, S0), uint8, that is left in a framing."""
        if params is None:
            inner = slice(margin, pixels.shape[-1] - margin)
            return pixels[:, :, inner, inner]
        return warp(pixels.float(), params, margin=margin).round().to(torch.uint8)
