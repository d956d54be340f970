"""The label correlation graph of ECLARE, from the label matrix alone.

    1. labels with more than `hub_threshold` rows stay out of the walk: one would link everything
    2. a random walk with restart from every label
    3. optionally: edges between labels of different text are dropped
    4. the heaviest edges of every label, and its self-loop

Source: ECLARE, "Extreme Classification with Label Graph Correlations", WWW 2021.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.graphs._prune import edge_cosines, keep_edges, keep_strongest, without_diagonal
from skxc.utils._sparse import normalize_rows


def without_columns(y: sp.csr_array, columns: NDArray[np.bool_]) -> sp.csr_array:
    """Return the matrix with the entries of these columns, a mask of shape (L,), removed."""
    return keep_edges(y, ~columns[y.indices])


def strongest_with_self_loops(visits: sp.csr_array, top_k: int) -> sp.csr_array:
    """Return the `top_k` heaviest edges of every label, and its self-loop whatever its weight.

    A label whose walk never came back to it, or that took no part, gets a self-loop of weight 1.
    """
    own = visits.diagonal()
    loops = sp.diags_array(np.where(own > 0, own, 1).astype(visits.dtype))
    graph = sp.csr_array(without_diagonal(keep_strongest(visits, top_k)) + loops)
    graph.sort_indices()
    return graph


def correlation_graph(
    visits: sp.csr_array,
    top_k: int,
    *,
    vectors: NDArray[np.floating] | None = None,
    max_distance: float = 1.0,
) -> sp.csr_array:
    """Return the label graph of a walk, with self-loops; not normalised.

    Parameters
    ----------
    visits : csr_array of shape (L, L)
        Of the walk, or the edges of another graph.
    top_k : int
        Edges of a label that are kept, beside its self-loop.
    vectors : ndarray of shape (L, d) or None, default=None
        Embedded texts; None: labels need not be alike.
    max_distance : float, default=1.0
        Largest ``1 - cosine`` of the texts of linked labels.

    Returns
    -------
    csr_array of shape (L, L)
    """
    if vectors is not None:
        unit = normalize_rows(vectors)
        visits = keep_edges(visits, 1 - edge_cosines(visits, unit, unit) <= max_distance)
    return strongest_with_self_loops(visits, top_k)


def cluster_graph(membership: sp.csr_array, graph: sp.csr_array, top_k: int) -> sp.csr_array:
    """Return the graph between groups of labels: the summed weight from one group to another.

    Parameters
    ----------
    membership : csr_array of ones, shape (K, L)
        Which labels a group holds.
    graph : csr_array of shape (L, L)
        With self-loops, not normalised.
    top_k : int
        Heaviest edges of a group that are kept, beside its self-loop.

    Returns
    -------
    csr_array of shape (K, K)
    """
    between = sp.csr_array(membership @ graph @ membership.T)
    return strongest_with_self_loops(between, top_k)
