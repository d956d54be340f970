"""Label trees: which labels lie under which node, and which rows a node sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Annotated, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import Interval, NonNegativeFloat, Part, PositiveInt, params
from skxc.clustering import balanced_kmeans
from skxc.utils._random import stream

# Up to so many labels, one-vs-all without a tree is more accurate and about as quick.
FLAT_LABELS = 1000

AtLeastTwo = Annotated[int, Interval(Integral, 2, None, closed="left")]
Lists = tuple[NDArray[np.integer], NDArray[np.integer]]


@params
class LabelTree(Part):
    """How labels are arranged in trees.

    Parameters
    ----------
    max_leaf_size : int, default=100
        Largest number of labels that are siblings.
    branching : int, default=16
        About how many children the nodes above have; rounded to powers of two.
    n_trees : int, default=1
        Number of trees with different random starts, whose probabilities are averaged. Without a
        tree (see `flat`) it has no effect.
    flat : bool or "auto", default="auto"
        Train all labels on all rows, without a tree; "auto" does so for up to 1,000 labels.
    graph_weight : float, default=0.5
        Weight of the mean of a label's neighbours against its own vector, when labels are
        clustered. Needs a graph.
    """

    max_leaf_size: AtLeastTwo = 100
    branching: AtLeastTwo = 16
    n_trees: PositiveInt = 1
    flat: bool | Literal["auto"] = "auto"
    graph_weight: NonNegativeFloat = 0.5


@dataclass(frozen=True, eq=False)
class Tree:
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
    """

    labels: NDArray[np.int64]
    child_start: NDArray[np.int64]

    @property
    def n_inner(self) -> int:
        """Number of inner nodes."""
        return len(self.child_start) - 1

    def paths(self) -> list[NDArray[np.int64]]:
        """Return the nodes of all labels, then those above them, up to below the root."""
        parent = np.repeat(np.arange(self.n_inner), np.diff(self.child_start))
        levels = [self.n_inner + np.arange(len(self.labels))]
        while levels[-1][0] >= self.child_start[1]:
            levels.append(parent[levels[-1] - 1])
        return levels


def flat_tree(labels: NDArray[np.int64]) -> Tree:
    """Return the tree with all labels right below the root: one-vs-all."""
    return Tree(labels, np.array([1, 1 + len(labels)]))


def grow_trees(
    settings: LabelTree,
    labels: NDArray[np.int64],
    vectors: Callable[..., sp.csr_array],
    seed: int,
) -> list[tuple[Tree, int]]:
    """Return trees over labels, each with a seed for its training.

    Parameters
    ----------
    settings : LabelTree
    labels : ndarray of int64
        Numbers of the labels that the trees hold.
    vectors : callable
        ``vectors(graph_weight=...)`` returns one vector per label, also for those left out. It is
        called unless all labels are trained without a tree.
    seed : int
    """
    rngs = [stream(seed, "tree", number) for number in range(settings.n_trees)]
    if len(labels) <= FLAT_LABELS if settings.flat == "auto" else settings.flat:
        return [(flat_tree(labels), int(rngs[0].integers(2**31)))]
    rows = vectors(graph_weight=settings.graph_weight)
    if len(labels) < rows.shape[0]:
        rows = rows[labels]
    # A seed is drawn after the clusters, from the same stream.
    return [(build_tree(rows, labels, settings, rng), int(rng.integers(2**31))) for rng in rngs]


def build_tree(
    vectors: sp.csr_array, labels: NDArray[np.int64], settings: LabelTree, rng: np.random.Generator
) -> Tree:
    """Cluster labels by balanced spherical 2-means, and keep every few levels of the binary tree.

    Parameters
    ----------
    vectors : csr_array of shape (n, d)
        One vector per label.
    labels : ndarray of int64, shape (n,)
        Numbers of the labels.
    settings : LabelTree
    rng : Generator
    """
    leaf = balanced_kmeans(vectors, max_leaf_size=settings.max_leaf_size, rng=rng)
    leaf_sizes = np.bincount(leaf)
    depth, step = (len(leaf_sizes) - 1).bit_length(), settings.branching.bit_length() - 1
    # As many levels as come closest to the wanted branching, of about equal width.
    n_levels = max(1, round(depth / step))
    sizes = [1 << (depth * level // n_levels) for level in range(n_levels + 1)]
    fan_out = [above for size, below in pairwise(sizes) for above in [below // size] * size]
    counts = leaf_sizes if depth == 0 else np.concatenate([fan_out, leaf_sizes])
    child_start = 1 + np.concatenate([[0], np.cumsum(counts)])
    return Tree(labels[np.lexsort((labels, leaf))], child_start)


def match_rows(tree: Tree, y: sp.csr_array) -> tuple[Lists, Lists]:
    """Return the nodes of every row, and the rows of every inner node.

    Parameters
    ----------
    tree : Tree
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
    paths = tree.paths()
    places = np.tile(np.arange(len(tree.labels)), len(paths))
    shape = (len(tree.labels), int(tree.child_start[-1]))
    path = sp.csr_array((np.ones(len(places), bool), (places, np.concatenate(paths))), shape=shape)
    nodes = sp.csr_array(y.astype(bool)[:, tree.labels] @ path)
    nodes.sort_indices()
    rows = sp.csc_array(nodes[:, : tree.n_inner])
    everywhere = np.arange(y.shape[0], dtype=rows.indices.dtype)
    indptr = rows.indptr.astype(np.int64)
    indptr[1:] += len(everywhere)
    members = indptr, np.concatenate([everywhere, rows.indices])
    return (nodes.indptr.astype(np.int64), nodes.indices), members
