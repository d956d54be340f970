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


class LabelTable(nn.Module):
    """A table of label vectors with row-sparse gradients.

    Parameters
    ----------
    weight : ndarray of float32, shape (n_labels, dim)
        Initial vectors; copied.
    dropout : float, default=0.0
        Share of a vector's components that is zeroed at each training step.
    """

    def __init__(self, weight: NDArray[np.float32], *, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float32))
        self.dropout = dropout

    def forward(self, ids: NDArray[np.integer]) -> Tensor:
        """Return the vectors of distinct, sorted label ids, shape (m, dim)."""
        return functional.dropout(gather_rows(self.weight, ids), self.dropout, self.training)

    def to_numpy(self) -> NDArray[np.float32]:
        """Return a copy of the table, shape (n_labels, dim)."""
        return self.weight.detach().cpu().numpy().copy()
