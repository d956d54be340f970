"""One level of a balanced tree, all nodes at once, for dense and for sparse rows.

A level has nodes x size places; the rows of a node lie side by side, and an empty place never has
weight. A vector per node is a (nodes, d) array in the dense case. In the sparse case it is flat,
with one number per column *in use* in the node, so that memory follows the stored entries and not
nodes x columns.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Order = NDArray[np.int64]


class DenseLevel:
    """The rows of a level as an array of shape (nodes, size, d)."""

    def __init__(self, rows: Floats) -> None:
        self._rows = rows

    @classmethod
    def root(cls, vectors: Floats) -> DenseLevel:
        """Return the level whose only node holds all vectors."""
        return cls(vectors[None])

    def children(self, order: Order) -> DenseLevel:
        """Return the next level; `order` (nodes, size) holds places of this one, -1 for none."""
        # An empty place repeats the last row; it never gets a weight.
        return DenseLevel(self._rows.reshape(-1, self._rows.shape[2])[order])

    def similarity(self, direction: Floats) -> Floats:
        """Return row . vector of its node, shape (nodes, size)."""
        return np.matmul(self._rows, direction[:, :, None])[:, :, 0]

    def sums(self, weight: Floats) -> Floats:
        """Return the sum of the rows of every node, weighted by `weight` (nodes, size)."""
        return np.matmul(weight[:, None, :], self._rows)[:, 0, :]

    def norms(self, vectors: Floats) -> Floats:
        """Return the length of every node's vector, shape (nodes,)."""
        return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))

    def scaled(self, vectors: Floats, factor: Floats) -> Floats:
        """Return every node's vector times its factor (nodes,)."""
        return vectors * factor[:, None]


class SparseLevel:
    """The rows of a level as a CSR array whose columns belong to one node each.

    The columns of node v are ``starts[v]`` to ``starts[v + 1]``: a block-diagonal matrix, with
    which one sparse product serves all nodes.
    """

    def __init__(self, rows: sp.csr_array, starts: Order) -> None:
        self._rows = rows
        self._starts = starts
        self._widths = np.diff(starts)

    @classmethod
    def root(cls, vectors: sp.csr_array) -> SparseLevel:
        """Return the level whose only node holds all vectors."""
        return cls(vectors, np.array([0, vectors.shape[1]]))

    def children(self, order: Order) -> SparseLevel:
        """Return the next level; `order` (nodes, size) holds places of this one, -1 for none."""
        rows = self._rows
        indptr = np.append(rows.indptr, rows.indptr[-1])
        with_empty = sp.csr_array(
            (rows.data, rows.indices, indptr), (len(indptr) - 1, rows.shape[1])
        )
        taken = with_empty[order.ravel()]
        child = np.arange(len(order))
        parent = child // 2
        # Both children first get a copy of their parent's columns; then the unused ones go.
        edges = 2 * self._starts[parent] + (child % 2) * self._widths[parent]
        shift = np.repeat(edges - self._starts[parent], np.diff(taken.indptr[:: order.shape[1]]))
        copied = taken.indices + shift
        used = np.zeros(2 * rows.shape[1], dtype=bool)
        used[copied] = True
        position = np.concatenate([[0], np.cumsum(used)])
        starts = np.append(position[edges], position[-1])
        shape = (order.size, int(position[-1]))
        return SparseLevel(
            sp.csr_array((taken.data, position[copied], taken.indptr), shape), starts
        )

    def similarity(self, direction: Floats) -> Floats:
        """Return row . vector of its node, shape (nodes, size)."""
        return (self._rows @ direction).reshape(len(self._widths), -1)

    def sums(self, weight: Floats) -> Floats:
        """Return the sum of the rows of every node, weighted by `weight` (nodes, size); flat."""
        return self._rows.T @ weight.ravel()

    def norms(self, vectors: Floats) -> Floats:
        """Return the length of every node's vector, shape (nodes,)."""
        total = np.concatenate([[0], np.cumsum(np.square(vectors, dtype=np.float64))])
        return np.sqrt(np.diff(total[self._starts])).astype(np.float32)

    def scaled(self, vectors: Floats, factor: Floats) -> Floats:
        """Return every node's vector times its factor (nodes,)."""
        return vectors * np.repeat(factor, self._widths)
