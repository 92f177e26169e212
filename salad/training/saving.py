"""Times at which finished epochs are saved: on a GPU an epoch can take less time than its checkpoint."""

from __future__ import annotations

import time

import torch

from salad.distributed.team import Team

GPU_SECONDS = 30.0  # between two checkpoints within a round


class SaveClock:
    """Clock that tells if a finished epoch is to be saved, the same in all processes of a team.

    Args:
        device: device of the training.
        team: processes that train together.
        seconds: least time between two checkpoints  [default: 0 on the CPU, so that every epoch is saved; 30 on others]

    Attributes:
        has_unsaved: True while the last finished epoch is not saved.
    """

    def __init__(self, device: torch.device, *, team: Team, seconds: float | None = None) -> None:
        self.has_unsaved = False
        self._team = team
        self._seconds = (0.0 if device.type == "cpu" else GPU_SECONDS) if seconds is None else seconds
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Tell if an epoch that has just ended is to be saved."""
        self.has_unsaved = True
        return self._seconds == 0 or self._team.from_first(lambda: time.monotonic() - self._saved >= self._seconds)

    def saved(self) -> None:
        """Start the time anew after a checkpoint."""
        self.has_unsaved, self._saved = False, time.monotonic()
