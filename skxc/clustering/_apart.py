"""Balanced clusters of which some hold frequent rows only."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.clustering._balanced_kmeans import balanced_kmeans


def balanced_kmeans_apart(
    vectors: NDArray[np.floating] | sp.csr_array,
    apart: NDArray[np.bool_],
    *,
    n_clusters: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Cluster rows into leaves of equal size, and some rows into leaves of their own.

    In a label tree, these are the labels of very many samples: whoever shares a leaf with one is
    hardly ever the reason why the leaf is right.

    Parameters
    ----------
    vectors : ndarray or csr_array of shape (n, d)
    apart : ndarray of bool, shape (n,)
        Rows that share no leaf with the others. Their leaves are at most as large as the others'.
    n_clusters : int
        Leaves of the others, a power of two; cut to the largest power of two that they can fill.
        Where n or more are asked for, every row is a leaf of its own.
    rng : Generator

    Returns
    -------
    ndarray of int64, shape (n,)
        Leaf of every row, from 0 on without gaps.

    References
    ----------
    ECLARE (WWW 2021); its code loses frequent labels where there are fewer than a leaf holds.
    """
    n = len(apart)
    if n_clusters >= n:
        return np.arange(n, dtype=np.int64)
    leaf = np.empty(n, dtype=np.int64)
    n_others = int(n - apart.sum())
    n_leaves, size = 0, -(-n // n_clusters)
    if n_others:
        fitting = min(n_clusters, 2 ** (n_others.bit_length() - 1))
        leaf[~apart] = balanced_kmeans(vectors[~apart], n_clusters=fitting, rng=rng)
        n_leaves, size = fitting, -(-n_others // fitting)
    if n_others < n:
        leaf[apart] = n_leaves + balanced_kmeans(vectors[apart], max_leaf_size=size, rng=rng)
    return leaf
