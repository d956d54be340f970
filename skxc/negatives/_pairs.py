"""Drawing labels of rows, and which pool labels are positive; cost follows the stored labels."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def row_entries(y: sp.csr_array, rows: Ids) -> tuple[Ids, Ids]:
    """Return (position in `rows`, label) of every stored entry of the rows, row by row."""
    counts = np.diff(y.indptr)[rows].astype(np.int64)
    owner = np.repeat(np.arange(len(rows), dtype=np.int64), counts)
    first = np.cumsum(counts) - counts
    entries = np.arange(len(owner)) - first[owner] + y.indptr[rows].astype(np.int64)[owner]
    return owner, y.indices[entries].astype(np.int64)


def sample_positives(
    y: sp.csr_array, rows: Ids, n: int | None, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw up to `n` different labels of every row, uniformly and without replacement.

    Parameters
    ----------
    y : csr_array of shape (n_samples, n_labels)
        Labels; every stored entry is one.
    rows : ndarray of int, shape (B,)
        Rows to draw for; a row with fewer than `n` labels gives all of them.
    n : int or None
        Labels per row; None gives all labels.
    rng : Generator
        Source of the draws.

    Returns
    -------
    ndarray of int64, shape (at most B * n,)
        Label ids, row by row; a label drawn by several rows is repeated.
    """
    owner, labels = row_entries(y, rows)
    if n is None:
        return labels
    order = np.lexsort((rng.random(len(owner)), owner))
    first = np.searchsorted(owner, owner)
    return labels[order[np.arange(len(owner)) - first < n]]


def membership(y: sp.csr_array, rows: Ids, pool: Ids) -> NDArray[np.bool_]:
    """Return which pool labels are positive for which rows, by full membership.

    Parameters
    ----------
    y : csr_array of shape (n_samples, n_labels)
        Labels, or any other pairs; every stored entry counts.
    rows : ndarray of int, shape (B,)
        Rows of `y`.
    pool : ndarray of int, shape (m,)
        Label ids, sorted and unique.

    Returns
    -------
    ndarray of bool, shape (B, m)
        True where the row has the label, however the label got into the pool.
    """
    mask = np.zeros((len(rows), len(pool)), dtype=bool)
    owner, labels = row_entries(y, rows)
    column = np.searchsorted(pool, labels)
    inside = column < len(pool)
    inside[inside] = pool[column[inside]] == labels[inside]
    mask[owner[inside], column[inside]] = True
    return mask
