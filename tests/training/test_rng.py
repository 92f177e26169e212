import random

import numpy as np
import torch

from salad.training.rng import rng_state, set_rng_state


def test_random_states_are_those_of_the_moment():
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    state = rng_state()
    expected = random.random(), np.random.rand(), torch.rand(()).item()
    set_rng_state(state)
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == expected
