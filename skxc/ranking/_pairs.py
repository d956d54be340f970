"""Lists of labels: (row, label) pairs that are joined, scored and ranked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skxc.utils._sparse import TopK

# Pairs whose vectors are gathered at once.
BLOCK_PAIRS = 4096

Ids = NDArray[np.integer]


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
    for start in range(0, len(rows), BLOCK_PAIRS):
        block = slice(start, start + BLOCK_PAIRS)
        products[block] = np.einsum("ed,ed->e", vectors[labels[block]], queries[rows[block]])
    return products


def rank_pairs(
    rows: Ids, labels: Ids, values: NDArray[np.float32], *, shape: tuple[int, int]
) -> TopK:
    """Return padded lists of the best labels of each of n rows, for distinct pairs in any order."""
    order = np.lexsort((labels, -values, rows))
    rows, labels, values = rows[order], labels[order], values[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    keep = rank < shape[1]
    indices = np.full(shape, -1, dtype=np.int64)
    scores = np.full(shape, -np.inf, dtype=np.float32)
    indices[rows[keep], rank[keep]] = labels[keep]
    scores[rows[keep], rank[keep]] = values[keep]
    return indices, scores
