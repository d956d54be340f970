"""CSR and top-k helpers: ranking, packing and filtering without ever building an n x L array.

One rule holds everywhere: only stored entries are predictions (a stored zero or negative score is
one, an absent entry is not), ranks go best first, and ties go to the lower label id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

TopK = tuple[NDArray[np.integer], NDArray[np.float32]]

# Rows that are normalised at once, and scores that are sorted at once.
BLOCK_ROWS, BLOCK_ENTRIES = 4096, 2**21


def row_ids(matrix: sp.csr_array) -> NDArray[np.int64]:
    """Return the row of every stored entry, in storage order."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def pair_ids(matrix: sp.csr_array) -> NDArray[np.int64]:
    """Return one integer per stored entry that identifies its (row, column) pair."""
    return row_ids(matrix) * matrix.shape[1] + matrix.indices


def index_dtype(n_labels: int) -> type[np.integer]:
    """Return int32, or int64 where int32 cannot number the labels."""
    return np.int32 if n_labels <= np.iinfo(np.int32).max else np.int64


def rank_rows(scores: sp.csr_array, k: int) -> TopK:
    """Return the k best stored entries of every row as padded (indices, scores) arrays.

    Parameters
    ----------
    scores : csr_array of shape (n, L)
        Only stored entries take part.
    k : int
        Number of columns of the result.

    Returns
    -------
    indices : ndarray of int32 (int64 beyond its range), shape (n, k)
        Label ids, best first, ties to the lower id; -1 where a row runs out.
    scores : ndarray of float32, shape (n, k)
        Their scores; -inf where a row runs out.
    """
    scores = scores if scores.has_sorted_indices else scores.sorted_indices()
    at = ranked_positions(scores, k)
    labels = pick(scores.indices, at).astype(index_dtype(scores.shape[1]))
    values = pick(scores.data, at).astype(np.float32)
    return np.where(at < 0, -1, labels), np.where(at < 0, np.float32(-np.inf), values)


def ranked_positions(scores: sp.csr_array, depth: int) -> NDArray[np.int64]:
    """Return where the best entries of every row are stored, best first, ties to the lower column.

    Parameters
    ----------
    scores : csr_array of shape (n, L)
        Finite values, sorted columns.
    depth : int
        Number of columns of the result.

    Returns
    -------
    ndarray of int64, shape (n, depth)
        Positions in ``scores.data``; -1 where a row runs out.
    """
    ranked = np.full((scores.shape[0], depth), -1, dtype=np.int64)
    lengths = np.diff(scores.indptr)
    for rows in _rows_of_similar_length(lengths):
        slot = np.arange(lengths[rows].max())
        inside = slot < lengths[rows, None]
        at = np.where(inside, scores.indptr[rows, None].astype(np.int64) + slot, -1)
        order = np.argsort(
            np.where(inside, np.negative(scores.data[at], dtype=np.float64), np.inf),
            axis=1,
            kind="stable",
        )
        best = np.take_along_axis(at, order[:, :depth], axis=1)
        ranked[rows, : best.shape[1]] = best
    return ranked


def _rows_of_similar_length(lengths: NDArray[np.integer]) -> Iterator[NDArray[np.int64]]:
    """Yield blocks of non-empty rows that padding makes at most twice as large."""
    power = np.ceil(np.log2(np.maximum(lengths, 1)))
    for value in np.unique(power[lengths > 0]):
        rows = np.flatnonzero((power == value) & (lengths > 0))
        height = max(1, int(BLOCK_ENTRIES // 2**value))
        for start in range(0, rows.size, height):
            yield rows[start : start + height]


def pick(values: NDArray[Any], at: NDArray[np.int64]) -> NDArray[Any]:
    """Return the values at positions of which all may be padding."""
    return values[at] if values.size else np.zeros(at.shape, dtype=values.dtype)


def top_k(scores: NDArray[np.floating], k: int) -> TopK:
    """Return the k best columns of every row of a dense block, best first, ties to the lower one.

    Parameters
    ----------
    scores : ndarray of shape (n, m)
        Finite scores.
    k : int
        Wanted columns; the result has min(k, m).

    Returns
    -------
    indices : ndarray of int32, shape (n, min(k, m))
    scores : ndarray of float32, shape (n, min(k, m))
    """
    n, m = scores.shape
    k = min(k, m)
    if k == m:
        columns = np.argsort(-scores, axis=1, kind="stable")
    else:
        # A partition alone would pick any of the columns tied at the cut.
        cut = np.partition(scores, m - k, axis=1)[:, m - k, None]
        above, tied = scores > cut, scores == cut
        wanted = k - above.sum(axis=1, keepdims=True)
        chosen = above | (tied & (np.cumsum(tied, axis=1) <= wanted))
        columns = np.nonzero(chosen)[1].reshape(n, k)
        order = np.argsort(-np.take_along_axis(scores, columns, axis=1), axis=1, kind="stable")
        columns = np.take_along_axis(columns, order, axis=1)
    values = np.take_along_axis(scores, columns, axis=1)
    return columns.astype(np.int32), values.astype(np.float32)


def pack_topk(
    indices: NDArray[np.integer], scores: NDArray[np.floating], n_labels: int
) -> sp.csr_array:
    """Pack padded (indices, scores) into a CSR array with sorted columns, without ids of -1."""
    keep = indices >= 0
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    dtype = index_dtype(max(n_labels, int(indptr[-1])))
    shape = (indices.shape[0], n_labels)
    columns = indices[keep].astype(dtype, copy=False)
    packed = sp.csr_array((scores[keep], columns, indptr.astype(dtype)), shape=shape)
    packed.sort_indices()
    return packed


def values_at(
    matrix: sp.csr_array, rows: NDArray[np.integer], labels: NDArray[np.integer], missing: float
) -> NDArray[np.float32]:
    """Return the stored values of (row, label) pairs, and `missing` for pairs that are absent."""
    matrix = matrix if matrix.has_sorted_indices else matrix.sorted_indices()
    keys = np.append(pair_ids(matrix), np.iinfo(np.int64).max)
    wanted = rows.astype(np.int64) * matrix.shape[1] + labels
    at = np.searchsorted(keys, wanted)
    values = np.append(matrix.data, missing).astype(np.float32)[at]
    return np.where(keys[at] == wanted, values, np.float32(missing))


def drop_pairs(matrix: sp.csr_array, pairs: sp.csr_array) -> sp.csr_array:
    """Return `matrix` without the stored entries whose (row, column) is stored in `pairs`."""
    return only(matrix, ~np.isin(pair_ids(matrix), pair_ids(pairs)))


def only(matrix: sp.csr_array, kept: NDArray[np.bool_]) -> sp.csr_array:
    """Return the stored entries of a mask."""
    indptr = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sp.csr_array((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def share_found(truth: sp.csr_array, found: sp.csr_array) -> float:
    """Return the share of the weight of `truth` that lies on stored entries of `found`."""
    hit = np.isin(pair_ids(truth), pair_ids(found))
    return float(truth.data[hit].sum() / max(truth.data.sum(), 1))


def normalize_rows(matrix: Any) -> Any:
    """Return a csr_array or ndarray with rows of unit L2 norm; zero rows stay zero."""
    if sp.issparse(matrix):
        data = np.empty_like(matrix.data)
        # Blocks, since the float64 numbers on the way take several times the room of the matrix.
        for start in range(0, matrix.shape[0], BLOCK_ROWS):
            edges = matrix.indptr[start : start + BLOCK_ROWS + 1]
            part, lengths = slice(edges[0], edges[-1]), np.diff(edges)
            rows = np.repeat(np.arange(len(lengths)), lengths)
            squares = matrix.data[part].astype(np.float64) ** 2
            norms = np.sqrt(np.bincount(rows, weights=squares, minlength=len(lengths)))
            norms[norms == 0] = 1
            data[part] = matrix.data[part] / norms[rows]
        return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    norms[norms == 0] = 1
    return matrix / norms
