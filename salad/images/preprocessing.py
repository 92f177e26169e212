"""Preprocess batches of decoded images to the network's input, on the device of the batch.

As in `normalize`, this happens after the cache, so that one cache serves every preprocessing.
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
    """Registration, cropping and normalisation of decoded images; by default, images stay unchanged.

    S0 is the side of a decoded image, and S = S0 - 2 * margin the side of the network's input.

    Attributes:
        kind: kind of grey-level normalisation, see `normalize`.
        margin: pixels to cut off along each border.
        template: result of `build_template`, to register images to; None skips the registration.
    """

    kind: str = "fixed"
    margin: int = 0
    template: Tensor | None = None

    def __call__(self, grey: Tensor) -> Tensor:
        """Preprocess decoded images (B, 1, S0, S0), uint8, to the network's input, (B, 1, S, S), uint8."""
        return self.view(grey, self.fit(grey))

    def frame(self, grey: Tensor) -> Tensor:
        """Preprocess decoded images without cutting off the margin: (B, 1, S0, S0), uint8, to the same shape."""
        return self.view(grey, self.fit(grey), is_whole=True)

    def fit(self, grey: Tensor) -> Tensor | None:
        """Register decoded images (B, 1, S0, S0), uint8, to the template: (B, 4), see `register`; None without one."""
        if self.template is None:
            return None
        return register(self.template.to(grey.device), grey)

    def view(self, grey: Tensor, params: Tensor | None, *, is_whole: bool = False) -> Tensor:
        """Warp decoded images by given parameters, cut off the margin and normalise the grey levels.

        Args:
            grey: decoded images, (B, 1, S0, S0), uint8.
            params: result of `fit`, (B, 4) or None.
            is_whole: whether to keep the margin.

        Returns:
            (B, 1, S, S), uint8, or (B, 1, S0, S0) with the margin.
        """
        return normalize(self._window(grey, params, margin=0 if is_whole else self.margin), self.kind)

    def find_seen(self, grey: Tensor, params: Tensor | None, *, is_whole: bool = False) -> Tensor | None:
        """Find the pixels of a `view` that come from inside the image and do not repeat its border.

        Args:
            grey: decoded images, (B, 1, S0, S0), uint8.
            params: result of `fit`, (B, 4) or None.
            is_whole: whether the view keeps the margin.

        Returns:
            1 inside and 0 on the repeated border, (B, 1, S, S) or (B, 1, S0, S0) with the margin, float32; None
            without registration, where every pixel lies inside.
        """
        if params is None:
            return None
        return find_inside(params, side=grey.shape[-1], margin=0 if is_whole else self.margin)

    def mark(self, mask: NDArray[np.bool_], params: Tensor | None, *, is_whole: bool = False) -> NDArray[np.bool_]:
        """Warp and crop the mask of an image in the same way as the image.

        Args:
            mask: True at marked pixels, (S0, S0).
            params: result of `fit` for the image, (1, 4) or None.
            is_whole: whether to keep the margin.

        Returns:
            True at marked pixels, (S, S), or (S0, S0) with the margin.
        """
        levels = torch.from_numpy(mask.astype(np.uint8) * 255)[None, None]
        levels = levels if params is None else levels.to(params.device)
        window = self._window(levels, params, margin=0 if is_whole else self.margin)
        warped: NDArray[np.uint8] = window[0, 0].cpu().numpy()
        marked: NDArray[np.bool_] = warped >= 128
        return marked if marked.any() else warped > 0  # keep small marks, as `read_mask` does

    def _window(self, pixels: Tensor, params: Tensor | None, *, margin: int) -> Tensor:
        """Warp `pixels` (B, 1, S0, S0), uint8, and cut off a margin along each border."""
        if params is None:
            inner = slice(margin, pixels.shape[-1] - margin)
            return pixels[:, :, inner, inner]
        return warp(pixels.float(), params, margin=margin).round().to(torch.uint8)
