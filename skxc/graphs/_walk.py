"""Random walks with restart over edges between two kinds of nodes, summed in closed form.

Edges link rows to columns. A step of the walk goes along a random edge to the other kind, and along
a random edge back. With A from columns to rows, B from rows to columns, p = restart, q = 1 - p:

    columns, visited from columns       C = p sum_j q^j (A B)^(j + 1)        labels that share rows
    columns, visited from rows          W = p sum_j q^j (B A)^j B            anchors of labels

Before every step the walk starts again from its first node with probability p. It reaches columns
that share no row with the first one, which co-occurrence does not: that is the walk with p = 1.

Sources: ECLARE (WWW 2021), whose code simulates 400 steps of C, and RAMEN (arXiv 2402.18434), which
adds edges to graphs of metadata by W. Both have p = 0.8.
"""

from __future__ import annotations

from numbers import Real
from typing import Annotated

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import Interval, Part, PositiveInt, params
from skxc.graphs._prune import (
    as_ones,
    block_by_block,
    keep_edges,
    keep_strongest,
    kth_heaviest,
    without_hubs,
)
from skxc.utils._sparse import drop_pairs
from skxc.utils._validation import checked_sparse


@params
class RandomWalk(Part):
    """A random walk with restart over the edges of a graph.

    Parameters
    ----------
    restart : float in (0, 1], default=0.8
        Probability that a step starts from the first node of the walk; 1 is co-occurrence.
    length : int, default=400
        Steps. Their number scales visits, and nodes with less than one expected visit do not count
        as new edges.
    n_terms : int, default=4
        Terms of the series; a share of ``(1 - restart) ** n_terms`` of the steps is left out.
    width : int, default=64
        Heaviest entries of a row that are kept between two terms; bounds the memory.
    top_k : int, default=10
        Edges of a node that are taken from its walk.
    hub_threshold : int or None, default=500
        Nodes with more edges take no part in the walk, because they link everything; None: all do.

    Examples
    --------
    >>> import numpy as np
    >>> y = sp.csr_array(np.array([[1, 1, 0], [0, 1, 1]]))
    >>> RandomWalk(restart=1.0, length=1).visits(y).toarray().tolist()
    [[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]
    """

    restart: Annotated[float, Interval(Real, 0, 1, closed="right")] = 0.8
    length: PositiveInt = 400
    n_terms: PositiveInt = 4
    width: PositiveInt = 64
    top_k: PositiveInt = 10
    hub_threshold: PositiveInt | None = 500

    def hubs(self, degree: NDArray) -> NDArray[np.bool_]:
        """Return which nodes, with so many edges each, take no part in the walk."""
        return degree > (np.inf if self.hub_threshold is None else self.hub_threshold)

    def visits(
        self, y: sp.csr_array, row_weight: NDArray[np.floating] | None = None
    ) -> sp.csr_array:
        """Return the expected visits of a walk from every column, hubs not left out.

        Parameters
        ----------
        y : csr_array of shape (n, L)
            Labels of rows; every stored entry is one.
        row_weight : ndarray of shape (n,), default=None
            Positive weights with which a label draws its rows; None: equal ones.

        Returns
        -------
        csr_array of float32, shape (L, L)
            ``length`` times C; a label without rows has an empty row.
        """
        to_rows, to_labels = _steps(sp.csr_array(checked_sparse(y, "y")), row_weight)

        def walk(block: slice) -> sp.csr_array:
            visits = self._series(to_rows[block] @ to_labels, to_rows, to_labels)
            return _heaviest(visits, self.width) * self.length

        walked = sp.csr_array(block_by_block(walk, y.shape[1]), dtype=np.float32)
        walked.sort_indices()
        return walked

    def densify(self, edges: sp.csr_array) -> sp.csr_array:
        """Return the edges, and the most visited columns of every row that are no edges yet.

        Parameters
        ----------
        edges : csr_array of shape (n_rows, n_columns)
            Every stored edge is one.

        Returns
        -------
        csr_array of float32 ones, shape (n_rows, n_columns)
            With up to `top_k` new edges per row. Hubs only keep their edges.
        """
        edges = sp.csr_array(checked_sparse(edges, "edges"))
        to_rows, to_columns = _steps(without_hubs(edges, self.hub_threshold))

        def walk(block: slice) -> sp.csr_array:
            visits = row_shares(self._series(to_columns[block], to_rows, to_columns))
            visits = keep_edges(visits, visits.data >= 1 / self.length)
            return keep_strongest(drop_pairs(visits, edges[block]), self.top_k)

        return as_ones(sp.csr_array(as_ones(edges) + block_by_block(walk, edges.shape[0])))

    def _series(
        self, first: sp.csr_array, to_rows: sp.csr_array, to_columns: sp.csr_array
    ) -> sp.csr_array:
        """Return ``p sum_j q^j first (to_rows to_columns)^j``."""
        visits, total = first, self.restart * first
        for term in range(1, self.n_terms if self.restart < 1 else 1):
            visits = (_heaviest(visits, self.width) @ to_rows) @ to_columns
            total = total + self.restart * (1 - self.restart) ** term * visits
        return total


def row_shares(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix with rows that add up to 1; empty rows stay empty."""
    total = matrix.sum(axis=1)
    return sp.csr_array(sp.diags_array(1 / np.where(total > 0, total, 1)) @ matrix)


def _steps(
    edges: sp.csr_array, row_weight: NDArray[np.floating] | None = None
) -> tuple[sp.csr_array, sp.csr_array]:
    """Return the transition matrices from columns to rows and from rows to columns."""
    links = sp.csr_array((np.ones(edges.nnz), edges.indices, edges.indptr), shape=edges.shape)
    weighted = links.T if row_weight is None else links.T.multiply(row_weight)
    return row_shares(sp.csr_array(weighted)), row_shares(links)


def _heaviest(matrix: sp.csr_array, width: int) -> sp.csr_array:
    """Return the matrix with about the `width` heaviest entries of every row.

    Entries tied at the cut all stay, so that the result does not depend on their order.
    """
    # A shade lower, because ties may differ in their last bit.
    cut = kth_heaviest(matrix, width) * (1 - 1e-9)
    return keep_edges(matrix, matrix.data >= np.repeat(cut, np.diff(matrix.indptr)))
