"""Fewer edges: without the diagonal, the strongest of every row, or between similar ends."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.utils._sparse import pack_topk, rank_rows, row_ids

# Edges whose vectors are gathered at once.
BLOCK_EDGES = 4096


def without_diagonal(graph: sp.csr_array) -> sp.csr_array:
    """Return the graph without its self loops."""
    return keep_edges(graph, row_ids(graph) != graph.indices)


def keep_strongest(graph: sp.csr_array, top_k: int) -> sp.csr_array:
    """Return the graph with the `top_k` heaviest edges of every row; ties to the lower column."""
    return pack_topk(*rank_rows(graph, top_k), graph.shape[1])


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
