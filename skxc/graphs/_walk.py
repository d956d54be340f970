"""Random walks with restart over labels that share rows: an exact series, or simulated.

    P = D_label^-1 Y^T D_row^-1 Y          a step: a random row of the label, a random label of it
    C = length p P (I - q P)^-1  =  length p sum_j q^j P^(j+1)          p = restart, q = 1 - p

C holds the expected visits of a walk of `length` steps that starts at a label, and at every step
starts from that label again with probability p. It reaches labels that share no row with the first
one, which co-occurrence does not. P alone is the walk with restart 1.

Source: ECLARE, "Extreme Classification with Label Graph Correlations", WWW 2021, whose code
simulates the walk.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.graphs._prune import keep_edges

# Labels whose walks are made at once: bounds the memory, however many labels there are.
BLOCK_LABELS = 1024


def random_walk(
    y: sp.csr_array,
    *,
    restart: float = 0.8,
    length: int = 400,
    n_terms: int = 4,
    width: int = 64,
    row_weight: NDArray[np.floating] | None = None,
) -> sp.csr_array:
    """Return the expected visits of a random walk with restart from every label.

    Parameters
    ----------
    y : csr_array of shape (n, L)
        Labels of rows, or any other links between two kinds of nodes; every stored entry is one.
    restart : float in (0, 1], default=0.8
        Probability of starting a step at the first label instead of the last visited one, p.
    length : int, default=400
        Steps of a walk; only scales the result.
    n_terms : int, default=4
        Terms of the series; the visits of a label add up to ``length * (1 - q ** n_terms)``.
    width : int, default=64
        Heaviest entries of a row that are kept between two terms.
    row_weight : ndarray of shape (n,), default=None
        Positive weights with which a label draws its rows; None: equal ones.

    Returns
    -------
    csr_array of float32, shape (L, L)
        A label without rows has an empty row.

    Examples
    --------
    >>> import numpy as np
    >>> y = sp.csr_array(np.array([[1, 1, 0], [0, 1, 1]]))
    >>> random_walk(y, restart=1.0, length=1).toarray().tolist()
    [[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]
    """
    to_rows, to_labels = _steps(y, row_weight)
    blocks = []
    for start in range(0, y.shape[1], BLOCK_LABELS):
        visits = to_rows[start : start + BLOCK_LABELS] @ to_labels
        total = restart * visits
        for term in range(1, n_terms if restart < 1 else 1):
            visits = (_heaviest(visits, width) @ to_rows) @ to_labels
            total = total + restart * (1 - restart) ** term * visits
        blocks.append(_heaviest(total, width) * length)
    walk = sp.csr_array(sp.vstack(blocks, format="csr"), dtype=np.float32)
    walk.sort_indices()
    return walk


def simulated_walk(
    y: sp.csr_array,
    *,
    rng: np.random.Generator,
    restart: float = 0.8,
    length: int = 400,
    row_weight: NDArray[np.floating] | None = None,
) -> sp.csr_array:
    """Return the visits of one simulated random walk with restart from every label.

    Parameters
    ----------
    y, restart, length, row_weight
        As in `random_walk`.
    rng : Generator
        Source of the steps.

    Returns
    -------
    csr_array of float32, shape (L, L)
        Whole numbers; a row adds up to `length`, or is empty where the label has no row.
    """
    to_rows, to_labels = _steps(y, row_weight)
    has_rows = np.flatnonzero(np.diff(to_rows.indptr))
    starts = np.array_split(has_rows, max(1, -(-len(has_rows) // BLOCK_LABELS)))
    visited = []
    for first in starts:
        last: NDArray[np.integer] = first
        steps = []
        for _ in range(length):
            again = rng.random(len(first)) < restart
            last = _draw(to_labels, _draw(to_rows, np.where(again, first, last), rng), rng)
            steps.append(last)
        visited.append(np.array(steps, dtype=np.int64).reshape(length, len(first)))
    ends = np.concatenate([steps.ravel() for steps in visited])
    begins = np.concatenate([np.tile(first, length) for first in starts])
    ones = np.ones(len(ends), dtype=np.float32)
    return sp.csr_array(sp.coo_array((ones, (begins, ends)), shape=(y.shape[1],) * 2))


def _steps(
    y: sp.csr_array, row_weight: NDArray[np.floating] | None
) -> tuple[sp.csr_array, sp.csr_array]:
    """Return the transition matrices from labels to rows and from rows to labels."""
    links = sp.csr_array((np.ones(y.nnz), y.indices, y.indptr), shape=y.shape)
    weighted = links.T if row_weight is None else links.T.multiply(row_weight)
    return row_shares(sp.csr_array(weighted)), row_shares(links)


def row_shares(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix with rows that add up to 1; empty rows stay empty."""
    total = matrix.sum(axis=1)
    return sp.csr_array(sp.diags_array(1 / np.where(total > 0, total, 1)) @ matrix)


def _heaviest(matrix: sp.csr_array, width: int) -> sp.csr_array:
    """Return the matrix with about the `width` heaviest entries of every row.

    Entries tied at the cut all stay, so that the result does not depend on their order.
    """
    cut = np.zeros(matrix.shape[0])
    lengths = np.diff(matrix.indptr)
    for row in np.flatnonzero(lengths > width):
        entries = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
        cut[row] = np.partition(entries, len(entries) - width)[-width]
    # A shade lower, because ties may differ in their last bit.
    return keep_edges(matrix, matrix.data >= np.repeat(cut, lengths) * (1 - 1e-9))


def _draw(
    steps: sp.csr_array, nodes: NDArray[np.integer], rng: np.random.Generator
) -> NDArray[np.int32]:
    """Return where each node, which has a way out, goes by the transition matrix `steps`."""
    reached = np.cumsum(steps.data)
    before = np.concatenate([[0], reached])[steps.indptr]
    low, high = before[nodes], before[nodes + 1]
    place = np.searchsorted(reached, low + rng.random(len(nodes)) * (high - low), side="right")
    return steps.indices[np.clip(place, steps.indptr[nodes], steps.indptr[nodes + 1] - 1)]
