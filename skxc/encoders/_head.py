"""The torch side of `FrozenEncoder`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc.utils._row_sparse import as_tensor


class LinearHead(nn.Module):
    """Linear map of fixed embeddings, residual when the widths agree.

    Parameters
    ----------
    input_dim, dim : int
    dropout : float
    """

    def __init__(self, input_dim: int, dim: int, *, dropout: float) -> None:
        super().__init__()
        self.residual = input_dim == dim
        self.dropout = dropout
        self.linear = nn.Linear(input_dim, dim, bias=False)
        if self.residual:
            nn.init.zeros_(self.linear.weight)

    def forward(self, rows: NDArray[np.float32]) -> Tensor:
        """Return vectors of shape (b, dim)."""
        embedded = as_tensor(rows, np.float32).to(self.linear.weight.device)
        embedded = functional.dropout(embedded, self.dropout, self.training)
        mapped = self.linear(embedded)
        return embedded + mapped if self.residual else mapped
