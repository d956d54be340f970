"""The two heads of UniDEC on one encoder h.

    a(x) = norm(dropout(tanh(W h(x) + b)))     dual encoder: samples and label texts, against texts
    c(x) = dropout(V h(x) + d)                 classifier: samples, against one vector per label

Source: UniDEC (WWW 2025).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from skxc.utils._unit_length import unit_length


class TwoHeads(nn.Module):
    """Two projections of the encoder's vectors; each trains with its own loss.

    Parameters
    ----------
    input_dim : int
        Width of the encoder's vectors.
    dim : int
        Width of each head.
    dropout : float, default=0.1
        Share of a projected vector's components that is zeroed at each training step.
    """

    def __init__(self, input_dim: int, dim: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        self.text = nn.Linear(input_dim, dim)
        self.label = nn.Linear(input_dim, dim)
        self.dropout = dropout
        for layer in (self.text, self.label):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def against_texts(self, vectors: Tensor) -> Tensor:
        """Return a(x), unit vectors of shape (b, dim)."""
        return unit_length(self._drop(torch.tanh(self.text(vectors))))

    def against_labels(self, vectors: Tensor) -> Tensor:
        """Return c(x), shape (b, dim), not normalised."""
        return self._drop(self.label(vectors))

    def unit_against_labels(self, vectors: Tensor) -> Tensor:
        """Return c(x) at unit length, shape (b, dim), as prediction scores it."""
        return unit_length(self.against_labels(vectors))

    def side_by_side(self, vectors: Tensor) -> Tensor:
        """Return a(x) and c(x), both at unit length, shape (b, 2 * dim).

        The inner product of two of these is the sum of two cosines, so that one search ranks by it.
        """
        return torch.cat([self.against_texts(vectors), self.unit_against_labels(vectors)], dim=1)

    def _drop(self, vectors: Tensor) -> Tensor:
        return functional.dropout(vectors, self.dropout, self.training)
