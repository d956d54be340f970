"""Edge weights from clusters to labels, as log-weights of the rows that a step needs.

    A_cl = min(1, beta * softmax_l(a_c))           "clamp": no gradient at the cap
    A_cl = 1 - exp(-beta * softmax_l(a_c))         "soft": some gradient everywhere

The softmax runs over the stored labels of a cluster. Source: ELIAS (NeurIPS 2022) for the clamp.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc.utils._row_sparse import as_tensor, gather_rows

# Below exp(-8) the soft cap is x - x^2 / 2 to float32 precision; above ln 2 the other form of
# log(1 - exp(-x)) keeps its gradient.
_TINY, _HALF = -8.0, math.log(2.0)


class TreeEdges(nn.Module):
    """Edges of weight 1 that do not learn.

    Parameters
    ----------
    labels : ndarray of int32, shape (C, n_edges)
        Padded with -1.
    """

    def __init__(self, labels: NDArray[np.int32]) -> None:
        super().__init__()
        self.labels = labels

    def log_weights(self, clusters: NDArray[np.integer]) -> Tensor:
        """Return the logarithms of the weights of distinct, sorted clusters; -inf where padded."""
        padded = torch.from_numpy(self.labels[clusters] < 0)
        return torch.zeros(padded.shape).masked_fill(padded, -math.inf)


class LearnedEdges(nn.Module):
    """Edges whose logits are learned, with row-sparse gradients.

    Parameters
    ----------
    labels : ndarray of int32, shape (C, n_edges)
        Padded with -1.
    logits : ndarray of float32, shape (C, n_edges)
        Initial values.
    beta : float
    cap : {"soft", "clamp"}
    """

    def __init__(
        self,
        labels: NDArray[np.int32],
        logits: NDArray[np.float32],
        *,
        beta: float,
        cap: str,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.log_beta = math.log(beta)
        self.cap = cap

    def log_weights(self, clusters: NDArray[np.integer]) -> Tensor:
        """Return the logarithms of the weights of distinct, sorted clusters; -inf where padded."""
        logits = gather_rows(self.logits, clusters)
        padded = as_tensor(self.labels[clusters] < 0, bool).to(logits.device)
        logits = logits.masked_fill(padded, -math.inf)
        share = self.log_beta + functional.log_softmax(logits, dim=1)
        if self.cap == "clamp":
            return share.clamp(max=0.0)
        return soft_cap(share.masked_fill(padded, -math.inf))


def soft_cap(log_x: Tensor) -> Tensor:
    """Return log(1 - exp(-x)) for log x, accurate and with a gradient for all x up to 80."""
    x = log_x.exp()
    tiny, low = log_x < _TINY, x < _HALF
    # A branch that is not taken must not see values for which its gradient is infinite.
    middle = torch.where(low & ~tiny, x, _HALF)
    large = torch.where(low, _HALF, x)
    near = (-torch.expm1(-middle)).log()
    far = torch.log1p(-torch.exp(-large))
    return torch.where(tiny, log_x - x / 2, torch.where(low, near, far))
