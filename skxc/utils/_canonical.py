"""Canonical training rows: a weight equals a repetition, and the order of rows is forgotten.

Rows of weight zero go, equal rows become one row with the sum of their weights, and rows are
ordered by a 128-bit hash of their content. Any training that is a function of the canonical rows
gives the same model, bit for bit, for repeated rows and for integer weights, also with
mini-batches. As a side effect the order is as good as random, so the first rows are a fair draw for
a held-out part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

# Two starting points of the same mixing function make two independent 64-bit halves of the hash.
SEEDS = np.array([0x9E3779B97F4A7C15, 0xD1B54A32D192ED03], dtype=np.uint64)

# Rows that are hashed at once, since their pairs take several numbers of 64 bits each.
BLOCK_ROWS = 4096


def canonical_rows(
    parts: list[Any], weight: NDArray[np.float64], ties: Sequence[Any] = ()
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which rows to keep, in canonical order, and their weights.

    Parameters
    ----------
    parts : list of csr_array (n, ...) or ndarray of str (n,)
        What makes two rows equal: all parts agree. Sparse parts are canonical CSR.
    weight : ndarray of float64 of shape (n,)
        Non-negative weights.
    ties : sequence of csr_array (n, ...), default=()
        Parts that make rows different too, but decide on the order of otherwise equal rows only:
        what they hold moves no other row.

    Returns
    -------
    rows : ndarray of int64 of shape (m,)
        One row of every group of equal rows with a positive weight, ordered by content.
    weight : ndarray of float64 of shape (m,)
        Sum of the weights of the group.
    """
    kept = np.flatnonzero(weight > 0)
    hashes = _hash_parts(parts)[kept]
    # Equal rows are added up in the order of their weights, since float addition is not
    # associative.
    keys = [weight[kept], hashes[:, 1], hashes[:, 0]]
    if ties:
        more = _hash_parts(list(ties))[kept]
        keys[1:1] = [more[:, 1], more[:, 0]]
        hashes = np.hstack([hashes, more])
    order = np.lexsort(keys)
    hashes, kept = hashes[order], kept[order]
    is_first = np.ones(len(kept), dtype=bool)
    is_first[1:] = np.any(hashes[1:] != hashes[:-1], axis=1)
    starts = np.flatnonzero(is_first)
    return kept[starts], np.add.reduceat(weight[kept], starts)


def hash_rows(part: Any) -> NDArray[np.uint64]:
    """Return a (n, 2) hash of texts or of the rows of a csr_array."""
    return _hash_csr(part) if isinstance(part, sp.csr_array) else _hash_texts(part)


def _hash_parts(parts: list[Any]) -> NDArray[np.uint64]:
    """Return a (n, 2) hash of the rows of all parts together."""
    total = np.zeros((parts[0].shape[0], 2), dtype=np.uint64)
    for number, part in enumerate(parts, start=1):
        total += _mix(hash_rows(part) + np.uint64(number))
    return total


def _hash_texts(texts: NDArray[np.object_]) -> NDArray[np.uint64]:
    """Return a (n, 2) hash of texts."""
    digests = [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for text in texts
    ]
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(len(texts), 2)


def _hash_csr(matrix: sp.csr_array) -> NDArray[np.uint64]:
    """Return a (n, 2) hash of the stored (column, float32 value) pairs of every row."""
    blocks = [
        _hash_rows(matrix[start : start + BLOCK_ROWS])
        for start in range(0, matrix.shape[0], BLOCK_ROWS)
    ]
    return np.concatenate([np.zeros((0, 2), dtype=np.uint64), *blocks])


def _hash_rows(matrix: sp.csr_array) -> NDArray[np.uint64]:
    columns = matrix.indices.astype(np.uint64)
    values = matrix.data.astype(np.float32).view(np.uint32).astype(np.uint64)
    entries = columns << np.uint64(32) ^ values
    totals = np.zeros((matrix.nnz + 1, 2), dtype=np.uint64)
    for half, seed in enumerate(SEEDS):
        # Sums modulo 2^64, so the difference of two running totals is the sum over a row.
        np.cumsum(_mix(entries + seed), out=totals[1:, half])
    return totals[matrix.indptr[1:]] - totals[matrix.indptr[:-1]]


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values after the finaliser of splitmix64, a bijection that scatters all bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
