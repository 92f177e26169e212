import numpy as np
import torch

from salad.datasets.phantom import draw_film


def film(seed=0, size=96):
    """A drawn radiograph with room around it, (1, 1, S, S) in [0, 255]."""
    pixels = torch.from_numpy(np.asarray(draw_film(np.random.default_rng(seed), size=size)).astype(np.float32))
    return pixels.view(1, 1, size, size)
