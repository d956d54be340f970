"""One level of a balanced tree, all nodes at once, for dense and for sparse rows.

A level has nodes x size places; the rows of a node lie side by side, and an empty place never has
weight. A vector per node is a (nodes, d) array in the dense case. In the sparse case it is flat,
with one number per column *in use* in the node, so that memory follows the stored entries and not
nodes x columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Order = NDArray[np.int64]


# Stored entries that are rearranged at once.
MAX_ENTRIES = 1 << 18


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
        rows, size = self._rows, order.shape[1]
        indptr = np.append(rows.indptr, rows.indptr[-1])
        with_empty = sp.csr_array(
            (rows.data, rows.indices, indptr), (len(indptr) - 1, rows.shape[1])
        )
        lengths = np.diff(indptr)[order.ravel()]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(rows.indptr.dtype)
        data, indices = np.empty(indptr[-1], rows.dtype), np.empty(indptr[-1], rows.indices.dtype)
        starts = np.zeros(len(order) + 1, dtype=np.int64)
        # A few nodes at a time, so that memory holds two levels and little else.
        for begin, end in _runs(indptr[::size], MAX_ENTRIES):
            taken = with_empty[order[begin:end].ravel()]
            columns, starts[begin + 1 : end + 1] = self._columns(begin, end, taken, size)
            starts[begin + 1 : end + 1] += starts[begin]
            part = slice(indptr[begin * size], indptr[end * size])
            data[part], indices[part] = taken.data, columns
            indices[part] += indices.dtype.type(starts[begin])
        return SparseLevel(sp.csr_array((data, indices, indptr), (order.size, starts[-1])), starts)

    def _columns(
        self, begin: int, end: int, taken: sp.csr_array, size: int
    ) -> tuple[NDArray[np.integer], Order]:
        """Return the columns of some children in new numbers, and where those of each child end."""
        parent = np.arange(begin, end) // 2
        # Every child first gets a copy of its parent's columns; then the unused ones go.
        edges = np.concatenate([[0], np.cumsum(self._widths[parent])])
        shift = (edges[:-1] - self._starts[parent]).astype(taken.indices.dtype)
        copied = taken.indices + np.repeat(shift, np.diff(taken.indptr[::size]))
        used = np.zeros(edges[-1], dtype=bool)
        used[copied] = True
        position = np.zeros(edges[-1] + 1, dtype=taken.indices.dtype)
        np.cumsum(used, out=position[1:])
        return position[copied], position[edges[1:]]

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


def _runs(edges: Order, most: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of runs of nodes with at most so many entries, or of one node."""
    begin, n_nodes = 0, len(edges) - 1
    while begin < n_nodes:
        end = max(begin + 1, int(np.searchsorted(edges, edges[begin] + most, side="right")) - 1)
        yield begin, end
        begin = end
