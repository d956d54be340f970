"""Edge weights from clusters to labels, as log-weights of the rows that a step needs.

    A_cl = 1 - exp(-beta * softmax_l(a_c))

The softmax runs over the stored labels of a cluster. The soft cap leaves every edge a gradient; the
published one, min(1, beta * softmax), stops edges at the cap from learning.

Source: ELIAS (NeurIPS 2022).
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc._params import Part, PositiveFloat, PositiveInt, Share, params
from skxc.indices import IndexSizes, counted_edges
from skxc.utils._row_sparse import gather_rows, send

# Added to counts before their logarithm: what an edge without any count starts from.
COUNT_FLOOR = 1e-2
# Below exp(-8) the soft cap is x - x^2 / 2 to float32 precision; above ln 2 the other form of
# log(1 - exp(-x)) keeps its gradient.
_TINY, _HALF = -8.0, math.log(2.0)


@params
class Edges(Part):
    """Edges that learn, and the second stage of training, in which they do.

    Parameters
    ----------
    edges_per_cluster : int or None, default=None
        Largest number of labels of a cluster; kappa in the paper. None: it scales with the number
        of labels, see `skxc.indices.index_sizes`.
    beta : float or None, default=None
        Gain of the softmax over the edges of a cluster: about how many labels it can hold at full
        weight. None: as for `edges_per_cluster`.
    fine_tuning : float, default=1.0
        Factor of the learning rates of encoder and clusters while edges learn.
    """

    edges_per_cluster: PositiveInt | None = None
    beta: PositiveFloat | None = None
    fine_tuning: Share = 1.0


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
    """

    def __init__(
        self, labels: NDArray[np.int32], logits: NDArray[np.float32], *, beta: float
    ) -> None:
        super().__init__()
        self.labels = labels
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.log_beta = math.log(beta)

    def log_weights(self, clusters: NDArray[np.integer]) -> Tensor:
        """Return the logarithms of the weights of distinct, sorted clusters; -inf where padded."""
        ids, padded = send(
            [clusters.astype(np.int64), self.labels[clusters] < 0], self.logits.device
        )
        logits = gather_rows(self.logits, ids)
        logits = logits.masked_fill(padded, -math.inf)
        share = self.log_beta + functional.log_softmax(logits, dim=1)
        return soft_cap(share.masked_fill(padded, -math.inf))


def visited_edges(
    beams: sp.csr_array, y: sp.csr_array, tree: NDArray[np.int32], sizes: IndexSizes
) -> LearnedEdges:
    """Return edges to the labels whose rows visit a cluster most, and to those of its tree.

    They start at the logarithms of the counts; the paper starts them at random and drops edges of
    the tree, after which some labels cannot be reached.

    Parameters
    ----------
    beams : csr_array of shape (n, C)
        The best cluster scores of every training row, times the weight of the row.
    y : csr_array of shape (n, L)
    tree : ndarray of int32, shape (C, size)
        Labels of every cluster; padded with -1.
    sizes : IndexSizes
    """
    labels, counts = counted_edges(beams, y, sizes.edges_per_cluster, tree)
    return LearnedEdges(labels, np.log(counts + np.float32(COUNT_FLOOR)), beta=sizes.beta)


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
