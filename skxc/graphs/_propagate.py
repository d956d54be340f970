"""Graphs as operators: two-sided degree normalisation, and one hop of scores.

    G^ = D_row^-1/2 G D_col^-1/2            largest singular value 1: a hop never amplifies
    s  <- s / 2 + top_k(s G^) / 2           score propagation (GAME)

Source: ECLARE (WWW 2021) and its code.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skxc.graphs._prune import strongest_products
from skxc.utils._validation import checked_sparse


def normalize_degrees(graph: sp.csr_array) -> sp.csr_array:
    """Return ``D_row^-1/2 G D_col^-1/2`` with the row and column sums of a non-negative graph.

    Parameters
    ----------
    graph : csr_array of shape (L, L)
        Need not be symmetric.

    Returns
    -------
    csr_array of float32, shape (L, L)
        Its singular values are at most 1.
    """
    graph = sp.csr_array(checked_sparse(graph, "graph"))
    scales = []
    for axis in (1, 0):
        total = graph.sum(axis=axis).astype(np.float64)
        scales.append(sp.diags_array(1 / np.sqrt(np.where(total > 0, total, 1))))
    return sp.csr_array(scales[0] @ graph @ scales[1], dtype=np.float32)


def propagate(scores: sp.csr_array, graph: sp.csr_array, top_k: int) -> sp.csr_array:
    """Return scores of which half comes from one hop over the graph.

    Every stored score stays stored, so the list of a row only gets longer.

    Parameters
    ----------
    scores : csr_array of shape (n, L)
        Non-negative.
    graph : csr_array of shape (L, L)
        Normalised degrees.
    top_k : int
        Best entries of a row of ``scores @ graph`` that are used.

    Returns
    -------
    csr_array of float32, shape (n, L)
    """
    arrived = strongest_products(scores, graph, top_k)
    return sp.csr_array((scores + arrived) * np.float32(0.5))
