"""Label trees: which labels lie under which node, and which rows a node sees."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.clustering import balanced_kmeans

Array = NDArray[Any]
Arrays = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class LabelTree:
    """A tree whose leaves are labels, all at the same depth.

    Nodes are numbered level by level: the root is 0, inner nodes are 0 to ``n_inner - 1``, and
    the label ``labels[j]`` is the node ``n_inner + j``.

    Attributes
    ----------
    labels : ndarray of int64
        Labels in tree order.
    child_start : ndarray of int64, shape (n_inner + 1,)
        The children of an inner node p are the nodes ``child_start[p]`` to
        ``child_start[p + 1] - 1``.
    ancestors : ndarray of int64, shape (n_levels, n_labels)
        Inner nodes above the labels in tree order, from below the root downwards; without the root.
    """

    labels: NDArray[np.int64]
    child_start: NDArray[np.int64]
    ancestors: NDArray[np.int64]

    @property
    def n_inner(self) -> int:
        """Number of inner nodes."""
        return len(self.child_start) - 1

    @property
    def level_starts(self) -> list[int]:
        """First node of every inner level, the root's included, and the end of the last one."""
        return [0, *(int(nodes[0]) for nodes in self.ancestors), self.n_inner]

    def cut(self, begin: int, end: int) -> LabelTree:
        """Return the tree above one inner level, whose labels are the nodes of that level."""
        labels = np.arange(begin, end)
        return LabelTree(labels, self.child_start[: begin + 1], self.ancestors[:0])


def flat_tree(labels: NDArray[np.int64]) -> LabelTree:
    """Return the tree with all labels right below the root: one-vs-all."""
    child_start = np.array([1, 1 + len(labels)])
    return LabelTree(labels, child_start, np.empty((0, len(labels)), dtype=np.int64))


def build_tree(
    vectors: sp.csr_array,
    labels: NDArray[np.int64],
    *,
    max_leaf_size: int,
    branching: int,
    rng: np.random.Generator,
) -> LabelTree:
    """Cluster labels by balanced spherical 2-means, and keep every few levels of the binary tree.

    Parameters
    ----------
    vectors : csr_array of shape (n, d)
        One vector per label.
    labels : ndarray of int64, shape (n,)
        Numbers of the labels.
    max_leaf_size : int
        Largest number of labels under a node of the last inner level.
    branching : int
        About how many children the other inner nodes have. Their numbers are powers of two.
    rng : Generator

    Returns
    -------
    LabelTree
    """
    leaf = balanced_kmeans(vectors, max_leaf_size=max_leaf_size, rng=rng)
    n_leaves = int(leaf.max()) + 1
    if n_leaves == 1:
        return flat_tree(labels)
    order = np.lexsort((labels, leaf))
    leaf = leaf[order]
    depth, step = (n_leaves - 1).bit_length(), branching.bit_length() - 1
    # As many levels as come closest to the wanted branching, of about equal width.
    n_levels = max(1, round(depth / step))
    bits = [depth * (level + 1) // n_levels for level in range(n_levels)]
    sizes = [1 << bit for bit in bits]
    first = 1 + np.concatenate([[0], np.cumsum(sizes)])
    ancestors = np.stack(
        [start + (leaf >> (depth - bit)) for start, bit in zip(first, bits, strict=False)]
    )
    fan_out = [sizes[0]]
    for size, next_size in pairwise(sizes):
        fan_out += [next_size // size] * size
    counts = np.concatenate([fan_out, np.bincount(leaf, minlength=n_leaves)])
    child_start = 1 + np.concatenate([[0], np.cumsum(counts)])
    return LabelTree(labels[order], child_start, ancestors)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _row_nodes(
    indptr: Array, indices: Array, position: Array, ancestors: Array, n_inner: int
) -> Arrays:
    """Return the nodes above and at the labels of every row as (indptr, nodes), sorted."""
    n, n_levels = len(indptr) - 1, len(ancestors)
    nodes = np.empty(len(indices) * (n_levels + 1), dtype=np.int64)
    starts = np.zeros(n + 1, dtype=np.int64)
    at = 0
    for i in range(n):
        places = np.sort(position[indices[indptr[i] : indptr[i + 1]]])
        for level in range(n_levels + 1):
            previous = -1
            for place in places:
                if place < 0:
                    continue
                node = ancestors[level, place] if level < n_levels else n_inner + place
                if node != previous:
                    nodes[at] = node
                    at += 1
                previous = node
        starts[i + 1] = at
    return starts, nodes[:at].copy()


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _node_rows(starts: Array, nodes: Array, n_inner: int) -> Arrays:
    """Return the rows of every inner node as (indptr, rows); the root sees all rows."""
    n = len(starts) - 1
    indptr = np.zeros(n_inner + 1, dtype=np.int64)
    indptr[1] = n
    for node in nodes:
        if node < n_inner:
            indptr[node + 1] += 1
    for node in range(n_inner):
        indptr[node + 1] += indptr[node]
    rows = np.empty(indptr[n_inner], dtype=np.int64)
    rows[:n] = np.arange(n)
    fill = indptr[:-1].copy()
    for i in range(n):
        for e in range(starts[i], starts[i + 1]):
            if nodes[e] < n_inner:
                rows[fill[nodes[e]]] = i
                fill[nodes[e]] += 1
    return indptr, rows


def match_rows(
    tree: LabelTree, y: sp.csr_array
) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    """Return the nodes of every row, and the rows of every inner node.

    Parameters
    ----------
    tree : LabelTree
    y : csr_array of shape (n, L)
        Labels of the rows; those that are not in the tree are left out.

    Returns
    -------
    nodes : (indptr, nodes)
        Per row the sorted nodes above and at its labels, without the root.
    rows : (indptr, rows)
        Per inner node the rows with a label under it; all rows for the root. These rows are its
        positives and its teacher-forced negatives.
    """
    position = np.full(y.shape[1], -1, dtype=np.int64)
    position[tree.labels] = np.arange(len(tree.labels))
    nodes = _row_nodes(y.indptr, y.indices, position, tree.ancestors, tree.n_inner)
    return nodes, _node_rows(*nodes, tree.n_inner)
