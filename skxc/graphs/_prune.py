"""Fewer edges: without the diagonal, or only the strongest of every row."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skxc.utils._sparse import pack_topk, rank_rows, row_ids


def without_diagonal(graph: sp.csr_array) -> sp.csr_array:
    """Return the graph without its self loops."""
    keep = row_ids(graph) != graph.indices
    indptr = np.concatenate([[0], np.cumsum(keep)])[graph.indptr]
    return sp.csr_array((graph.data[keep], graph.indices[keep], indptr), shape=graph.shape)


def keep_strongest(graph: sp.csr_array, top_k: int) -> sp.csr_array:
    """Return the graph with the `top_k` heaviest edges of every row; ties to the lower column."""
    return pack_topk(*rank_rows(graph, top_k), graph.shape[1])
