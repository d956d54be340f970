"""Exact search by inner product in blocks of queries and items.

A search has two steps. The first one scores every item fast: by a matrix product, or from the
eight-bit copy of `skxc.indices._int8` where that is faster. Its error is bounded, so all items that
can be among the k best are known. The second one computes the inner products of these candidates,
pair by pair. The result is therefore the same, bit for bit, whichever first step ran, for a query
alone or in a batch, and for any block shape.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from skxc._params import params
from skxc.indices._int8 import Int8Copy, int8_is_fast, largest_norm
from skxc.indices.base import Index
from skxc.utils._sparse import TopK


@params
class ExactIndex(Index):
    """Exact inner-product search whose memory does not grow with queries x items.

    Parameters
    ----------
    block_shape : tuple of (int, int), default=(128, 32768)
        Queries and items that are scored at once. The result does not depend on it.

    Notes
    -----
    The first array given to `add` is kept without a copy when it is float32 and C-contiguous (it
    may be a read-only memory map): do not write to it afterwards. Every further `add` and every
    `remove` copies all vectors, so pass many at a time.

    When torch is loaded already and the processor has AVX-512, the first search makes an eight-bit
    copy, which takes a quarter of the memory of the vectors. It changes the time, not the result.

    Examples
    --------
    >>> import numpy as np
    >>> index = ExactIndex()
    >>> index.add(np.eye(3))
    array([0, 1, 2], dtype=int32)
    >>> index.search([[0.0, 2.0, 1.0]], k=2)
    (array([[1, 2]], dtype=int32), array([[2., 1.]], dtype=float32))
    """

    block_shape: tuple[int, int] = (128, 32768)

    def __getstate__(self) -> dict:
        """Leave out the eight-bit copy: it holds torch tensors and is made again on demand."""
        state = super().__getstate__()
        return {**state, "_copy": None} if "_copy" in state else state

    def _add(self, vectors: NDArray[np.float32]) -> None:
        ids = np.arange(self._n_added, self._n_added + len(vectors))
        if self._n_added:
            vectors = np.concatenate([self._vectors, vectors])
            ids = np.concatenate([self._ids, ids])
        self._set(vectors, ids)

    def _remove(self, ids: NDArray[np.integer]) -> None:
        keep = ~np.isin(self._ids, ids)
        self._set(self._vectors[keep], self._ids[keep])

    def _set(self, vectors: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        self._vectors, self._ids = vectors, ids
        self._copy: Int8Copy | None = None
        self._largest_norm = largest_norm(vectors)

    def _search(self, queries: NDArray[np.float32], k: int) -> TopK:
        step = self.block_shape[0]
        blocks = (queries[start : start + step] for start in range(0, len(queries), step))
        found = [self._search_block(block, k) for block in blocks]
        positions, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return self._ids[positions], scores

    def _search_block(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Search a block of queries, item block by item block, carrying their k best along."""
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        for start in range(0, len(self._vectors), self.block_shape[1]):
            approximate, error = self._approximate(queries, start)
            for row, columns in enumerate(_candidates(approximate, error, scores)):
                new = start + columns
                # einsum adds up each pair by itself, so a pair has one score wherever it stands in
                # a block; the matrix products of BLAS do not promise that.
                exact = np.einsum("md,d->m", self._vectors[new], queries[row])
                merged = np.append(scores[row], exact)
                order = np.argsort(-merged, kind="stable")[:k]
                positions[row] = np.append(positions[row], new)[order]
                scores[row] = merged[order]
        return positions, scores

    def _approximate(self, queries: NDArray[np.float32], start: int) -> tuple[NDArray, NDArray]:
        """Return scores (n, m) of the items from `start` on, and a bound of their error (n, 1)."""
        block = slice(start, start + self.block_shape[1])
        dim = queries.shape[1]
        # A float32 sum of d products is off by at most d u |q| |v|, u = 2^-24, in any order of
        # summation. It counts twice, because the exact score of the second step is such a sum, too;
        # the 8 covers the single roundings of steps, norms and the cut.
        norm = np.linalg.norm(queries, axis=1, keepdims=True)
        rounding = norm * np.float32(2 * (dim + 8) * 2.0**-24 * self._largest_norm)
        if not int8_is_fast(dim):
            return queries @ self._vectors[block].T, rounding
        if self._copy is None:
            self._copy = Int8Copy(self._vectors)
        scores, error = self._copy.inner(queries, block)
        return scores, error + rounding


def _candidates(approximate: NDArray, error: NDArray, best: NDArray) -> list[NDArray[np.int64]]:
    """Return for every row the columns that can be among its k best, given its `best` k so far.

    The k-th best approximate score is at most one error above the k-th best exact score, and an
    item of the result at most one error below its own exact score: two errors below, none is lost.
    """
    k = best.shape[1]
    merged = np.hstack([best, approximate])
    merged.partition(merged.shape[1] - k, axis=1)
    cut = merged[:, -k, None] - 2 * error
    rows, columns = np.divmod(np.flatnonzero(approximate >= cut), approximate.shape[1])
    ends = np.searchsorted(rows, np.arange(len(approximate) + 1))
    return [columns[first:last] for first, last in pairwise(ends)]
