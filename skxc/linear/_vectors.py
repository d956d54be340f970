"""Label vectors: what a label is like, for the clustering of labels."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.linear._search import inverse_norms
from skxc.utils._sparse import row_ids


def unit_rows(matrix: sp.csr_array) -> sp.csr_array:
    """Return the rows scaled to length one, in float32; empty rows stay empty.

    The answer shares the column ids with the argument, since these matrices are large.
    """
    values = matrix.data.astype(np.float32, copy=False)
    scales = inverse_norms(matrix.indptr, values)
    scaled = values * np.repeat(scales, np.diff(matrix.indptr))
    return sp.csr_array((scaled, matrix.indices, matrix.indptr), shape=matrix.shape)


def label_vectors(
    X: sp.csr_array,
    y: sp.csr_array,
    sample_weight: NDArray[np.floating],
    *,
    label_features: sp.csr_array | None = None,
    graph: sp.csr_array | None = None,
    graph_weight: float = 0.5,
) -> sp.csr_array:
    """Return the normalised sum of a label's rows, joined with its features and its neighbours.

        p_l = unit(sum over rows i with label l of w_i x_i)
        q_l = unit(p_l + unit(label_features_l))
        v_l = unit(q_l + graph_weight * sum over m of G_lm q_m / sum over m of G_lm)

    where G is the graph plus its transpose, without loops; unit(0) = 0.

    Parameters
    ----------
    X : csr_array of float32, shape (n, d)
        Rows of length one, or empty.
    y : csr_array, shape (n, L)
    sample_weight : ndarray, shape (n,)
    label_features : csr_array, shape (L, d), default=None
    graph : csr_array, shape (L, L), default=None
    graph_weight : float, default=0.5

    Returns
    -------
    csr_array of float32, shape (L, d)

    References
    ----------
    p is PIFA (positive instance feature aggregation): Yu et al., "PECOS: Prediction for Enormous
    and Correlated Output Spaces", JMLR 2022.
    """
    votes = sample_weight[row_ids(y)].astype(np.float32)
    weighted = sp.csr_array((votes, y.indices, y.indptr), shape=y.shape)
    vectors = unit_rows(sp.csr_array(weighted.T @ X))
    if label_features is not None:
        vectors = unit_rows(sp.csr_array(vectors + unit_rows(label_features)))
    if graph is not None:
        mean = _mean_over_neighbours(graph)
        vectors = unit_rows(sp.csr_array(vectors + graph_weight * (mean @ vectors)))
    return vectors


def _mean_over_neighbours(graph: sp.csr_array) -> sp.csr_array:
    """Return the graph in both directions, without loops, with rows that sum to one."""
    both = sp.csr_array(graph + graph.T)
    both -= sp.diags_array(both.diagonal(), format="csr")
    degree = np.asarray(both.sum(axis=1)).ravel()
    degree[degree == 0] = 1
    return sp.csr_array(sp.diags_array((1 / degree).astype(np.float32)) @ both)
