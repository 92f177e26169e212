"""Guards that stop a run on values that are not finite, before a checkpoint is corrupted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from salad.errors import DivergedError, MachineError, printable

logger = logging.getLogger(__name__)

GPU_INTERVAL = 50  # steps between two checks on a GPU, where each check waits for the device
LOWEST_LOSS_SCALE = 2**-10  # the scale of fp16 starts at 2**16 and halves with each overflow
COLLAPSE_SPREAD = 1e-3  # total variance of unit embeddings; below it they count as one point


class FiniteGuard:
    """Check for the first batch with a loss or embeddings that are not finite, without a GPU wait at every step.

    Losses stay on the device until `interval` steps have been added, or until `check` is called.

    Args:
        device: device of the losses.
        name_of: function from the index of an image to its name.
        interval: steps between two checks  [default: 1 on the CPU, before a step corrupts the weights; 50 on others]
    """

    def __init__(self, device: torch.device, *, name_of: Callable[[int], str], interval: int | None = None) -> None:
        self.interval = interval or (1 if device.type == "cpu" else GPU_INTERVAL)
        self.name_of = name_of
        self._unread: list[tuple[Tensor, list[str], Tensor]] = []  # values, names of the terms, indices of the images

    def watch(self, loss: Tensor, terms: dict[str, Tensor], z: Tensor | None, *, index: Tensor) -> None:
        """Add the values of a step, and check after every `interval` steps.

        Args:
            loss: loss of the step, a scalar.
            terms: terms of the loss, scalars by name.
            z: embeddings, (B, D); None without embeddings.
            index: indices of the images, (B,), on the CPU.

        Raises:
            DivergedError: a checked value is not finite.
        """
        of_z = torch.zeros_like(loss) if z is None else z.sum()
        values = torch.stack([part.detach() for part in (of_z, loss, *terms.values())])
        self._unread.append((values, list(terms), index))
        if len(self._unread) >= self.interval:
            self.check()

    def check(self) -> None:
        """Raise `DivergedError` with the images of the first bad batch; call it before saving."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        on_host = torch.cat([values for values, _, _ in unread]).cpu()  # one transfer for all steps
        read = torch.split(on_host, [len(values) for values, _, _ in unread])
        for (embeddings, loss, *terms), (_, names, index) in zip(map(Tensor.tolist, read), unread, strict=True):
            if math.isfinite(loss + embeddings):
                continue
            values = ", ".join(f"{name} = {term}" for name, term in zip(names, terms, strict=True))
            what = "an embedding" if math.isfinite(loss) else "the loss"
            raise DivergedError(
                f"{what} is not finite ({values}); the checkpoints so far are good; try a smaller --lr; "
                f"the batch was: {', '.join(map(self.name_of, index.tolist()))}"
            )


@contextmanager
def batch_advice(device: torch.device, *, batch_size: int, amp: torch.dtype | None) -> Iterator[None]:
    """Name a batch size that fits, if a step finds too little memory on a GPU.

    Args:
        device: device of the step.
        batch_size: option --batch_size.
        amp: number format of mixed precision; None for float32.

    Raises:
        MachineError: the GPU has too little free memory for a step.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # activations take most of the memory, and they grow with the batch
        ways = [f"--batch_size {batch_size // 2}"] if batch_size > 1 else ["a smaller --isize"]
        ways += ["--amp bf16"] if amp is None else []
        raise MachineError(
            f"out of memory on {device}: --batch_size {batch_size} needs more than is free; start again with "
            f"{' or '.join(ways)} ({printable(error)[:200]})"
        ) from None


def check_weights(network: nn.Module) -> None:
    """Raise `DivergedError` if a weight is not finite, because no loss follows the last step of an epoch."""
    finite = [tensor.isfinite().all() for tensor in network.state_dict().values()]
    if finite and not torch.stack(finite).all():
        raise DivergedError("the weights are not finite; the checkpoints so far are good; try a smaller --lr")


def check_loss_scale(scaler: torch.amp.GradScaler) -> None:
    """Raise `DivergedError` if fp16 gradients overflow at any loss scale, so that every step is skipped."""
    scale = scaler.get_scale()
    if scale < LOWEST_LOSS_SCALE:
        raise DivergedError(f"--amp fp16: gradients overflow even at a loss scale of {scale:.1e}; use bf16 or off")


def check_spread(spread: float, *, stop: bool) -> None:
    """Warn, or raise `DivergedError`, if all embeddings collapse to one point, a known failure of Deep SVDD.

    Args:
        spread: total variance of the unit embeddings of an epoch, in [0, 1].
        stop: True to raise the error.
    """
    if spread >= COLLAPSE_SPREAD:
        return
    message = (
        f"all embeddings are almost one point (spread {spread:.1e}), so scores mean nothing; "
        "try a smaller --w_svdd or --lr"
    )
    if stop:
        raise DivergedError(message)
    logger.warning("%s", message)
