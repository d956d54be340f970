"""Lists of labels: (row, label) pairs that are joined, scored and ranked, in compiled loops."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxc.utils._compiled import compiled
from skxc.utils._sparse import TopK

Ids = NDArray[np.integer]
Array = NDArray[Any]


def union_of_lists(lists: list[NDArray[np.integer]], n_labels: int) -> tuple[Ids, Ids]:
    """Return the distinct (row, label) pairs of padded lists, sorted by row and label."""
    keys = []
    for labels in lists:
        row, place = np.nonzero(labels >= 0)
        keys.append(row * n_labels + labels[row, place])
    return np.divmod(np.unique(np.concatenate(keys)), n_labels)


def inner_products(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], rows: Ids, labels: Ids
) -> NDArray[np.float32]:
    """Return the inner product of each (row, label) pair, bit for bit that of an exact index."""
    products = np.empty(len(rows), dtype=np.float32)
    _inner_products(
        read_only(queries),
        read_only(vectors),
        rows.astype(np.int64, copy=False),
        labels.astype(np.int64, copy=False),
        products,
    )
    return products


def read_only(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a C-contiguous float32 view, always of the one type that loops are compiled for."""
    view = np.ascontiguousarray(vectors, dtype=np.float32).view()
    view.flags.writeable = False
    return view


# Sums of products in any order, so that the compiler can use wide registers. This is the only loop
# over the columns of pairs: one compiled function gives one sum, whatever stands around a pair.
@partial(compiled, fastmath=frozenset({"reassoc", "contract"}))
def _inner_products(queries: Array, vectors: Array, rows: Array, labels: Array, out: Array) -> None:
    for pair in range(len(rows)):
        query, vector = queries[rows[pair]], vectors[labels[pair]]
        total = np.float32(0)
        for j in range(queries.shape[1]):
            total += query[j] * vector[j]
        out[pair] = total


def rank_pairs(
    rows: Ids, labels: Ids, values: NDArray[np.float32], *, shape: tuple[int, int]
) -> TopK:
    """Return padded lists of the best labels of each of n rows, for distinct pairs in any order.

    Parameters
    ----------
    rows, labels : ndarray of int, shape (e,)
        Labels lie below 2^32.
    values : ndarray of float32, shape (e,)
    shape : tuple of (n, k)
    """
    indices = np.full(shape, -1, dtype=np.int64)
    scores = np.full(shape, -np.inf, dtype=np.float32)
    _rank_pairs(
        rows.astype(np.int64, copy=False), labels.astype(np.int64, copy=False), values, indices,
        scores,
    )  # fmt: skip
    return indices, scores


@compiled
def best_first_key(label: Any, bits: Any) -> Any:
    """Return an integer that orders by value, largest first, and then by label."""
    # Of numbers below zero, the larger one has the smaller bits.
    ordered = bits if bits >= 0 else bits ^ 0x7FFFFFFF
    return (-1 - np.int64(ordered)) << 32 | np.int64(label)


@compiled
def _rank_pairs(rows: Array, labels: Array, values: Array, indices: Array, scores: Array) -> None:
    n, k = indices.shape
    ends = np.zeros(n + 1, dtype=np.int64)
    for row in rows:
        ends[row + 1] += 1
    for row in range(n):
        ends[row + 1] += ends[row]
    keys = np.empty(len(rows), dtype=np.int64)
    bits = (values + np.float32(0)).view(np.int32)  # a zero has one sign
    for pair in range(len(rows)):
        keys[ends[rows[pair]]] = best_first_key(labels[pair], bits[pair])
        ends[rows[pair]] += 1
    out = scores.view(np.int32)
    first = 0
    for row in range(n):
        mine = keys[first : ends[row]]
        first = ends[row]
        if len(mine) > k:
            mine = np.partition(mine, k - 1)[:k]
        mine.sort()
        for place in range(len(mine)):
            indices[row, place] = mine[place] & 0xFFFFFFFF
            ordered = -1 - (mine[place] >> 32)
            out[row, place] = ordered if ordered >= 0 else ordered ^ 0x7FFFFFFF
