"""Anchors: the memory rows that lie closest to others, and the neighbours they are grouped with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from salad import nearest as search
from salad.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The anchors of a round and their neighbours.

    Attributes:
        anchors: row numbers in rising order, (A,).
        neighbours: the K most similar other rows of each anchor, (A, K).
        entropy: of every row's softmax over all rows, in nats, (N,).
    """

    anchors: Tensor
    neighbours: Tensor
    entropy: Tensor

    def to(self, device: torch.device) -> Anchors:
        """The same anchors on a device."""
        moved = (tensor.to(device) for tensor in (self.anchors, self.neighbours, self.entropy))
        return Anchors(**dict(zip(("anchors", "neighbours", "entropy"), moved, strict=True)))

    @property
    def position(self) -> Tensor:
        """Where each row stands in `anchors`, -1 for a row that is no anchor; (N,)."""
        position = torch.full_like(self.entropy, -1, dtype=torch.long)
        position[self.anchors] = torch.arange(len(self.anchors), device=position.device)
        return position

    def neighbours_of(self, index: Tensor) -> Tensor:
        """Neighbours of the rows in index, (B,) -> (B, K); a row that is no anchor has -1 everywhere."""
        slot = torch.searchsorted(self.anchors, index).clamp(max=len(self.anchors) - 1)
        is_anchor = self.anchors[slot] == index
        return torch.where(is_anchor[:, None], self.neighbours[slot], -1)


@torch.no_grad()
def discover_anchors(rows: Tensor, *, num_anchors: int, num_neighbours: int, temperature: float) -> Anchors:
    """Find the rows of lowest entropy and the neighbours of each (Huang et al., ICML 2019).

    The entropy of row i is that of the softmax of M_i . M_j / tau over all j, i itself included. All pairs of rows
    are met once, block by block: beside 4 K bytes a row for the neighbours of all, the extra memory is that of two
    blocks, 64 MiB in float32, whatever N.

    Args:
        rows: unit rows, (N, D).
        num_anchors: A, in 1..N.
        num_neighbours: K, in 1..N-1.
        temperature: tau > 0.

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
            nearest = search.merge(nearest, logits, start=start, k=num_neighbours + 1)  # itself is mostly among them
            softmax.add(logits)
        assert nearest is not None, "there are rows"
        entropy[chunk] = softmax.entropy
        values, index = nearest
        others = values.masked_fill_(index == chunk[:, None], -torch.inf).topk(num_neighbours, dim=1).indices
        neighbours[chunk] = index.gather(1, others).int()
    anchors = entropy.sort(stable=True).indices[:num_anchors].sort().values
    return Anchors(anchors=anchors, neighbours=neighbours[anchors].long(), entropy=entropy)


class Softmax:
    """The entropy of each row's softmax, from logits that come in parts.

    Sums are kept relative to the largest logit so far, so that any temperature and any length of rows will do.

    Args:
        logits: one logit of each row, no matter which, (Q,); as a rule the largest, so that the sums stay as they are.
    """

    def __init__(self, logits: Tensor) -> None:
        self.largest = logits
        self.total = torch.zeros_like(logits)  # of exp(logit - largest)
        self.moment = torch.zeros_like(logits)  # of exp(logit - largest) * (logit - largest)

    def add(self, logits: Tensor) -> None:
        """Take in some more logits of each row, (Q, C), which this overwrites."""
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
        """In nats, (Q,)."""
        return self.total.log() - self.moment / self.total
