import time

import pytest
import torch
from running import CPU

from salad.distributed.team import SOLO, Team
from salad.training.saving import GPU_SECONDS, SaveClock


@pytest.fixture
def clock(monkeypatch):
    """A function that sets the time."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_on_the_cpu_every_epoch_is_saved(clock):
    saves = SaveClock(CPU, team=SOLO)
    assert saves.is_due() and saves.is_due()


def test_on_a_gpu_epochs_are_saved_now_and_then(clock):
    saves = SaveClock(torch.device("cuda"), team=SOLO)
    assert not saves.is_due() and saves.has_unsaved
    clock(GPU_SECONDS)
    assert saves.is_due()
    saves.saved()
    assert not saves.has_unsaved and not saves.is_due()
    clock(2 * GPU_SECONDS - 0.1)
    assert not saves.is_due()


def test_the_first_process_decides_for_all(clock):
    class Other(Team):
        def from_first(self, make):
            return True

    assert SaveClock(torch.device("cuda"), team=Other()).is_due()
