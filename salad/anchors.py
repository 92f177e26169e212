"""Discover anchors, the memory rows of lowest entropy, and their nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from salad import nearest as search
from salad.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Anchors of a round and their neighbours.

    Attributes:
        anchors: row numbers in rising order, (A,).
        neighbours: the K most similar other rows of each anchor, (A, K).
        entropy: entropy of each row's softmax over all rows, in nats, (N,).
    """

    anchors: Tensor
    neighbours: Tensor
    entropy: Tensor

    def to(self, device: torch.device) -> Anchors:
        """Move the anchors to a device."""
        moved = (tensor.to(device) for tensor in (self.anchors, self.neighbours, self.entropy))
        return Anchors(**dict(zip(("anchors", "neighbours", "entropy"), moved, strict=True)))

    @property
    def position(self) -> Tensor:
        """Position of each row in `anchors`, -1 for a row that is not an anchor; (N,)."""
        position = torch.full_like(self.entropy, -1, dtype=torch.long)
        position[self.anchors] = torch.arange(len(self.anchors), device=position.device)
        return position

    def neighbours_of(self, index: Tensor) -> Tensor:
        """Look up the neighbours of rows, (B,) -> (B, K); a row that is not an anchor gets -1 in all entries."""
        slot = torch.searchsorted(self.anchors, index).clamp(max=len(self.anchors) - 1)
        is_anchor = self.anchors[slot] == index
        return torch.where(is_anchor[:, None], self.neighbours[slot], -1)


@torch.no_grad()
def discover_anchors(rows: Tensor, *, num_anchors: int, num_neighbours: int, temperature: float) -> Anchors:
    """Find the rows of lowest entropy and the neighbours of each (Huang et al., ICML 2019).

    The entropy of row i is that of the softmax of M_i . M_j / tau over all j, including i. All pairs of rows are
    compared once, block by block. The neighbours of all rows take 4 K bytes a row, and two blocks take 64 MiB in
    float32, for any N.

    Args:
        rows: unit rows, (N, D).
        num_anchors: A, in 1..N.
        num_neighbours: K, in 1..N-1.
        temperature: tau > 0 of the softmax.

    Raises:
        InputError: num_anchors or num_neighbours does not fit the number of rows.
    """
    num_rows = len(rows)
    if not 1 <= num_anchors <= num_rows:
        raise InputError(f"num_anchors is {num_anchors}, but must lie in 1..{num_rows}, the number of rows")
    if not 1 <= num_neighbours < num_rows:
        raise InputError(f"num_neighbours is {num_neighbours}, but {num_rows} rows have {num_rows - 1} others each")
    entropy = rows.new_empty(num_rows)
    neighbours = torch.empty(num_rows, num_neighbours, dtype=torch.int32, device=rows.device)
    for chunk in torch.split(torch.arange(num_rows, device=rows.device), search.QUERIES):
        queries = rows[chunk] / temperature
        softmax = Softmax((queries * rows[chunk]).sum(dim=1))
        nearest = None
        for start, logits in search.blocks(queries, rows):
            nearest = search.merge(nearest, logits, start=start, k=num_neighbours + 1)  # + 1 for the row itself
            softmax.add(logits)
        assert nearest is not None, "there are rows"
        entropy[chunk] = softmax.entropy
        values, index = nearest
        others = values.masked_fill_(index == chunk[:, None], -torch.inf).topk(num_neighbours, dim=1).indices
        neighbours[chunk] = index.gather(1, others).int()
    anchors = entropy.sort(stable=True).indices[:num_anchors].sort().values
    return Anchors(anchors=anchors, neighbours=neighbours[anchors].long(), entropy=entropy)


class Softmax:
    """Entropy of each row's softmax, from logits that arrive in blocks.

    Sums are relative to the largest logit so far, so that no temperature and no length of the rows makes them
    overflow.

    Args:
        logits: any logit of each row, (Q,); if it is the largest, the sums are never rescaled.
    """

    def __init__(self, logits: Tensor) -> None:
        self.largest = logits
        self.total = torch.zeros_like(logits)  # sum of exp(logit - largest)
        self.moment = torch.zeros_like(logits)  # sum of exp(logit - largest) * (logit - largest)

    def add(self, logits: Tensor) -> None:
        """Add more logits of each row, (Q, C), and overwrite them."""
        largest = torch.maximum(self.largest, logits.amax(dim=1))
        fall = self.largest - largest
        self.moment = fall.exp() * (self.moment + fall * self.total)
        self.total = fall.exp() * self.total
        logits -= largest[:, None]
        weights = logits.exp()
        self.total += weights.sum(dim=1)
        self.moment += weights.mul_(logits).sum(dim=1)
        self.largest = largest

    @property
    def entropy(self) -> Tensor:
        """Entropy of each row's softmax, in nats, (Q,)."""
        return self.total.log() - self.moment / self.total
