"""What stops a run whose arithmetic has gone wrong, before its checkpoints are corrupted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from salad.errors import DivergedError

logger = logging.getLogger(__name__)

GPU_INTERVAL = 50  # steps between two looks at a loss on a device that would have to be waited for
LOWEST_LOSS_SCALE = 2**-10  # fp16 begins at 2**16 and halves with each overflow
COLLAPSE_SPREAD = 1e-3  # total variance of unit embeddings below which they count as one point


class FiniteGuard:
    """Finds the first batch whose loss or embeddings are not finite, without making a GPU wait at every step.

    What a step gives stays on the device until `interval` steps have come, or until `check`.

    Args:
        device: where the losses lie.
        name_of: from the number of an image to its name.
        interval: steps between two looks  [default: on the CPU 1, at once, before a step corrupts the weights]
    """

    def __init__(self, device: torch.device, *, name_of: Callable[[int], str], interval: int | None = None) -> None:
        self.interval = interval or (1 if device.type == "cpu" else GPU_INTERVAL)
        self.name_of = name_of
        self._unread: list[tuple[Tensor, list[str], Tensor]] = []  # values, their names, numbers of the images

    def watch(self, loss: Tensor, terms: dict[str, Tensor], z: Tensor | None, *, index: Tensor) -> None:
        """Take in a step.

        Args:
            loss: a scalar.
            terms: of the loss, scalars by name.
            z: embeddings, (B, D), if there are any.
            index: numbers of the images, (B,), not on a GPU.

        Raises:
            DivergedError: it was time to look, and something was not finite.
        """
        of_z = torch.zeros_like(loss) if z is None else z.sum()
        values = torch.stack([part.detach() for part in (of_z, loss, *terms.values())])
        self._unread.append((values, list(terms), index))
        if len(self._unread) >= self.interval:
            self.check()

    def check(self) -> None:
        """Raise `DivergedError`, naming the images of the first batch at fault; call it before anything is saved."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        on_host = torch.cat([values for values, _, _ in unread]).cpu()  # one copy for all
        read = torch.split(on_host, [len(values) for values, _, _ in unread])
        for (embeddings, loss, *terms), (_, names, index) in zip(map(Tensor.tolist, read), unread, strict=True):
            if math.isfinite(loss + embeddings):
                continue
            values = ", ".join(f"{name} = {term}" for name, term in zip(names, terms, strict=True))
            what = "an embedding" if math.isfinite(loss) else "the loss"
            raise DivergedError(
                f"{what} is not finite ({values}); the checkpoints so far stand; try a smaller --lr; "
                f"the batch was: {', '.join(map(self.name_of, index.tolist()))}"
            )


def check_weights(network: nn.Module) -> None:
    """Raise `DivergedError` where a weight is not finite: the last step of an epoch is seen by no loss."""
    finite = [tensor.isfinite().all() for tensor in network.state_dict().values()]
    if not torch.stack(finite).all():
        raise DivergedError("the weights are not finite; the checkpoints so far stand; try a smaller --lr")


def check_loss_scale(scaler: torch.amp.GradScaler) -> None:
    """Raise `DivergedError` where gradients in fp16 overflow however small their scale, so that no step is made."""
    scale = scaler.get_scale()
    if scale < LOWEST_LOSS_SCALE:
        raise DivergedError(f"--amp fp16: gradients overflow even at a loss scale of {scale:.1e}; use bf16 or off")


def check_spread(spread: float, *, stop: bool) -> None:
    """Warn, or raise `DivergedError`, where all embeddings of an epoch were one point (known of Deep SVDD)."""
    if spread >= COLLAPSE_SPREAD:
        return
    message = (
        f"all embeddings are almost one point (spread {spread:.1e}), so scores mean nothing; "
        "try a smaller --w_svdd or --lr"
    )
    if stop:
        raise DivergedError(message)
    logger.warning("%s", message)
