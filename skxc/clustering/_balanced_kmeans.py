"""Balanced spherical 2-means, recursively."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.clustering._levels import DenseLevel, Floats, Order, SparseLevel
from skxc.utils._sparse import normalize_rows

_TOLERANCE = 1e-4
_MAX_ITER = 50


def balanced_kmeans(
    vectors: NDArray[np.floating] | sp.csr_array,
    *,
    n_clusters: int | None = None,
    max_leaf_size: int | None = None,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Cluster rows by cosine into leaves of equal size.

    A node is split in two halves: two random rows are the first centroids; rows are ordered by the
    difference of their two similarities and cut in the middle; the normalised means are the next
    centroids. All nodes of a level stop together, when the mean similarity of a row to its centroid
    improves by less than 1e-4.

    Parameters
    ----------
    vectors : ndarray or csr_array of shape (n, d)
        Rows; only their directions matter. Computed in float32.
    n_clusters : int, default=None
        Number of leaves, a power of two of at most n.
    max_leaf_size : int, default=None
        Largest leaf; the tree gets just deep enough. Give this or `n_clusters`.
    rng : Generator
        Source of the first centroids.

    Returns
    -------
    ndarray of int64, shape (n,)
        Leaf of every row, from 0 on without gaps; leaf sizes differ by at most one. Leaves 2j and
        2j + 1 are the halves of one parent j, and so on upwards (leaves of one row are not
        arranged).

    Raises
    ------
    ValueError
        If not exactly one size is given, or it is out of range.

    Notes
    -----
    Memory is about twice that of the vectors; the time per level is that of a few passes over them.

    References
    ----------
    Prabhu et al., "Parabel: Partitioned Label Trees for Extreme Classification with Application to
    Dynamic Search Advertising", WWW 2018; Dahiya et al., "NGAME", WSDM 2023.
    """
    n = vectors.shape[0]
    depth = _depth(n, n_clusters, max_leaf_size)
    places = np.arange(n, dtype=np.int64)[None]
    if max_leaf_size == 1:
        return places[0]
    if depth > 0:
        level = _root(vectors)
    for remaining in range(depth, 0, -1):
        order = _halves(level, places < n, rng)
        places = np.append(places.ravel(), n)[order]
        if remaining > 1:
            level = level.children(order)
    taken = places < n
    leaf = np.empty(n, dtype=np.int64)
    leaf[places[taken]] = np.repeat(np.arange(len(places)), taken.sum(axis=1))
    return leaf


def _depth(n: int, n_clusters: int | None, max_leaf_size: int | None) -> int:
    if (n_clusters is None) == (max_leaf_size is None):
        raise ValueError("Give exactly one of `n_clusters` and `max_leaf_size`.")
    if n_clusters is not None:
        if n_clusters < 1 or n_clusters & (n_clusters - 1) or n_clusters > max(n, 1):
            raise ValueError(
                f"`n_clusters` must be a power of two of at most {n} (the number of rows), but is "
                f"{n_clusters}. Give `max_leaf_size` when only the size of a leaf matters."
            )
        return n_clusters.bit_length() - 1
    if max_leaf_size is None or max_leaf_size < 1:
        raise ValueError(f"`max_leaf_size` must be at least 1, but is {max_leaf_size}.")
    depth = 0
    while -(-n >> depth) > max_leaf_size:
        depth += 1
    return depth


def _root(vectors: NDArray[np.floating] | sp.csr_array) -> DenseLevel | SparseLevel:
    if sp.issparse(vectors):
        return SparseLevel.root(normalize_rows(sp.csr_array(vectors, dtype=np.float32)))
    return DenseLevel.root(normalize_rows(np.asarray(vectors, dtype=np.float32)))


def _halves(
    level: DenseLevel | SparseLevel, present: NDArray[np.bool_], rng: np.random.Generator
) -> Order:
    """Split every node in two; return the places of the rows of the 2 x nodes children.

    A node fills `size` or `size - 1` places. Its upper half always has size // 2 rows, the lower
    half the rest, so that the children again have at most one empty place.
    """
    size = present.shape[1]
    cut = size - size // 2
    first, second = _two_random_rows(present, rng)
    total = level.sums(present.astype(np.float32))
    direction = _unit(level, level.sums(first)) - _unit(level, level.sums(second))
    best = -np.inf
    for _ in range(_MAX_ITER):
        gain = level.similarity(direction)
        gain[~present] = -np.inf
        ranked = np.argpartition(gain, cut, axis=1)
        upper = level.sums(_indicator(ranked[:, cut:], size))
        lower = total - upper
        # With unit rows the length of a sum is the summed similarity to the normalised mean.
        mean = float((level.norms(upper) + level.norms(lower)).sum()) / present.sum()
        if mean - best < _TOLERANCE:
            break
        best = mean
        direction = _unit(level, upper) - _unit(level, lower)
    return _children_places(ranked, cut)


def _two_random_rows(present: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Floats, Floats]:
    lottery = rng.random(present.shape)
    lottery[~present] = 2
    drawn = np.argpartition(lottery, 1, axis=1)
    size = present.shape[1]
    return _indicator(drawn[:, :1], size), _indicator(drawn[:, 1:2], size)


def _indicator(chosen: Order, size: int) -> Floats:
    weight = np.zeros((len(chosen), size), dtype=np.float32)
    np.put_along_axis(weight, chosen, 1, axis=1)
    return weight


def _unit(level: DenseLevel | SparseLevel, vectors: Floats) -> Floats:
    norms = level.norms(vectors)
    return level.scaled(vectors, 1 / np.maximum(norms, np.finfo(np.float32).tiny))


def _children_places(ranked: Order, cut: int) -> Order:
    nodes, size = ranked.shape
    places = ranked + size * np.arange(nodes)[:, None]
    children = np.full((nodes, 2, cut), -1, dtype=np.int64)
    children[:, 0] = places[:, :cut]
    children[:, 1, : size - cut] = places[:, cut:]
    return children.reshape(2 * nodes, cut)
