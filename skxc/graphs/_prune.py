"""Fewer edges: without the diagonal, the strongest of every row, or between similar ends."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Annotated

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import Interval, NonNegativeInt, Part, PositiveInt, params
from skxc.utils._sparse import index_dtype, row_ids

# Edges whose vectors are gathered at once.
BLOCK_EDGES = 4096
# Rows that are multiplied at once: bounds the memory of what is not kept.
BLOCK_ROWS = 1024


@params
class Pruning(Part):
    """Edges whose ends the model does not find similar are left out, again and again.

    Parameters
    ----------
    warmup : int, default=4
        Epochs before edges are pruned for the first time; 10 in the paper [1]_.
    interval : int, default=2
        Epochs from one pruning to the next; 5 in the paper [1]_.
    threshold : float in [-1, 1], default=0.0
        Edges stay whose ends have a larger cosine.

    References
    ----------
    .. [1] "Graph Regularized Encoder Training for Extreme Classification" (RAMEN),
       arXiv 2402.18434.
    """

    warmup: NonNegativeInt = 4
    interval: PositiveInt = 2
    threshold: Annotated[float, Interval(Real, -1, 1, closed="both")] = 0.0

    def is_due(self, epoch: int) -> bool:
        """Return whether edges are pruned before an epoch, counted from 0."""
        return epoch >= self.warmup and (epoch - self.warmup) % self.interval == 0


def without_diagonal(graph: sp.csr_array) -> sp.csr_array:
    """Return the graph without its self loops."""
    return keep_edges(graph, row_ids(graph) != graph.indices)


def keep_strongest(graph: sp.csr_array, top_k: int) -> sp.csr_array:
    """Return the graph with the `top_k` heaviest edges of every row; ties to the lower column."""
    weight = graph.data.astype(np.float32)
    index_type = index_dtype(max(graph.shape[1], graph.nnz))
    edges = sp.csr_array((weight, graph.indices, graph.indptr), shape=graph.shape, copy=True)
    edges.sort_indices()
    keep = _among_strongest(edges, top_k)
    indptr = np.concatenate([[0], np.cumsum(keep)])[edges.indptr]
    columns = edges.indices[keep].astype(index_type, copy=False)
    return sp.csr_array((edges.data[keep], columns, indptr.astype(index_type)), shape=graph.shape)


def strongest_products(left: sp.csr_array, right: sp.csr_array, top_k: int) -> sp.csr_array:
    """Return ``keep_strongest(left @ right, top_k)`` without holding the whole product."""
    return block_by_block(
        lambda block: keep_strongest(sp.csr_array(left[block] @ right), top_k), left.shape[0]
    )


def block_by_block(make: Callable[[slice], sp.csr_array], n_rows: int) -> sp.csr_array:
    """Return the rows that `make` returns for one slice of so many rows after the other."""
    starts = range(0, max(n_rows, 1), BLOCK_ROWS)
    blocks = [make(slice(start, start + BLOCK_ROWS)) for start in starts]
    return sp.csr_array(sp.vstack(blocks, format="csr"))


def as_ones(edges: sp.csr_array) -> sp.csr_array:
    """Return the graph with weight 1 for every stored edge, and sorted columns."""
    ones = np.ones(edges.nnz, dtype=np.float32)
    graph = sp.csr_array((ones, edges.indices.copy(), edges.indptr.copy()), shape=edges.shape)
    graph.sort_indices()
    return graph


def keep_edges(graph: sp.csr_array, keep: NDArray[np.bool_]) -> sp.csr_array:
    """Return the graph with the marked ones of its stored edges."""
    indptr = np.concatenate([[0], np.cumsum(keep)])[graph.indptr]
    return sp.csr_array((graph.data[keep], graph.indices[keep], indptr), shape=graph.shape)


def without_hubs(graph: sp.csr_array, threshold: int | None) -> sp.csr_array:
    """Return the edges between rows and columns that have at most `threshold` edges; None: all."""
    if threshold is None:
        return graph
    rows, columns = row_ids(graph), graph.indices
    few = np.bincount(rows, minlength=graph.shape[0])[rows] <= threshold
    few &= np.bincount(columns, minlength=graph.shape[1])[columns] <= threshold
    return keep_edges(graph, few)


def edge_cosines(
    graph: sp.csr_array, rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the inner product of the two ends of every stored edge, in storage order.

    Parameters
    ----------
    graph : csr_array of shape (n_rows, n_columns)
    rows, columns : ndarrays of float32, shapes (n_rows, d) and (n_columns, d)
        Unit vectors of both ends.

    Returns
    -------
    ndarray of float32, shape (nnz,)
    """
    ends = row_ids(graph), graph.indices
    cosines = np.empty(graph.nnz, dtype=np.float32)
    for start in range(0, graph.nnz, BLOCK_EDGES):
        block = slice(start, start + BLOCK_EDGES)
        cosines[block] = np.einsum("ed,ed->e", rows[ends[0][block]], columns[ends[1][block]])
    return cosines


def kth_heaviest(graph: sp.csr_array, k: int) -> NDArray[np.floating]:
    """Return the weight of the k-th heaviest edge of every row; -inf where a row has no more."""
    lengths = np.diff(graph.indptr)
    cut = np.full(len(lengths), -np.inf, dtype=graph.dtype)
    # Partitions of the long rows take a fraction of the time of sorting all edges.
    for row in np.flatnonzero(lengths > k):
        weight = graph.data[graph.indptr[row] : graph.indptr[row + 1]]
        cut[row] = np.partition(weight, len(weight) - k)[-k]
    return cut


def _among_strongest(edges: sp.csr_array, top_k: int) -> NDArray[np.bool_]:
    """Return which stored edges, whose columns are sorted, are among the heaviest of their row."""
    lengths = np.diff(edges.indptr)
    cut_of = np.repeat(kth_heaviest(edges, top_k), lengths)
    above, tied = edges.data > cut_of, edges.data == cut_of
    n_above, n_tied = (np.concatenate([[0], np.cumsum(mask)]) for mask in (above, tied))
    wanted = top_k - np.diff(n_above[edges.indptr])
    place = n_tied[1:] - np.repeat(n_tied[edges.indptr[:-1]], lengths)
    return above | (tied & (place <= np.repeat(wanted, lengths)))
