"""What stops a run whose arithmetic has gone wrong, before its checkpoints are spoilt."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from salad.errors import DivergedError

logger = logging.getLogger(__name__)

COLLAPSE_SPREAD = 1e-3  # total variance of unit embeddings below which they count as one point


def check_loss(loss: Tensor, z: Tensor, terms: dict[str, Tensor], names: Iterable[str]) -> None:
    """Raise `DivergedError`, naming the images of the batch, where its loss or an embedding is not finite."""
    if not torch.isfinite(loss + z.detach().sum()):
        values = ", ".join(f"{name} = {term.item()}" for name, term in terms.items())
        what = "an embedding" if torch.isfinite(loss) else "the loss"
        raise DivergedError(
            f"{what} is not finite ({values}); the checkpoints so far stand; try a smaller --lr; "
            f"the batch was: {', '.join(names)}"
        )


def check_weights(network: nn.Module) -> None:
    """Raise `DivergedError` where a weight is not finite: the last step of an epoch is seen by no loss."""
    finite = [tensor.isfinite().all() for tensor in network.state_dict().values()]
    if not torch.stack(finite).all():
        raise DivergedError("the weights are not finite; the checkpoints so far stand; try a smaller --lr")


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
