"""One free vector per label, of which a step reads and writes only the rows it uses."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc.utils._row_sparse import gather_rows


def unit_rows(vectors: Tensor) -> Tensor:
    """Return label vectors of unit length; those shorter than 0.1 are stretched tenfold only.

    The vector of a label without text starts at zero, where the gradient of a unit vector has no
    bound, and one boundless gradient would stop Adam from moving the label ever after.
    """
    return functional.normalize(vectors, dim=1, eps=0.1)


class LabelVectors(nn.Module):
    """A table of label vectors with row-sparse gradients.

    Parameters
    ----------
    weight : ndarray of float32, shape (n_labels, dim)
        Initial vectors; copied.
    dropout : float, default=0.0
        Share of a vector's components that is zeroed at each training step.
    dtype : {"float32", "bfloat16"}, default="float32"
        Number format of the table, and of what the optimiser keeps for it. bfloat16 halves their
        memory; see `skxc.utils._rounding` for how small steps survive it.
    device : torch.device or None, default=None
        Where vectors are wanted; None: where the table is. A table may stay in the memory of the
        CPU although everything else is on another device: only the rows of a step travel.
    """

    def __init__(
        self,
        weight: NDArray[np.float32],
        *,
        dropout: float = 0.0,
        dtype: str = "float32",
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=getattr(torch, dtype)))
        self.dropout = dropout
        self.device = device

    def forward(self, ids: NDArray[np.integer]) -> Tensor:
        """Return the float32 vectors of distinct, sorted label ids, shape (m, dim)."""
        rows = gather_rows(self.weight, ids).to(self.device or self.weight.device, torch.float32)
        return functional.dropout(rows, self.dropout, self.training)

    def to_numpy(self, rows: slice = slice(None)) -> NDArray[np.float32]:
        """Return a copy of the table, or of some of its rows, in float32, shape (m, dim)."""
        return self.weight.detach()[rows].to("cpu", torch.float32, copy=True).numpy()
