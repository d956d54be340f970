"""Exact search by inner product in blocks of queries and items.

A search has two steps. The first one scores every item fast: by a matrix product, or from the
eight-bit copy of `skxc.indices._int8` where that is faster. Its error is bounded, so all items that
can be among the k best are known. The second one computes the inner products of these candidates,
pair by pair. The result is therefore the same, bit for bit, whichever first step ran, for a query
alone or in a batch, and for any block shape.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxc._params import params
from skxc.indices._int8 import Int8Copy, int8_is_fast, largest_norm
from skxc.indices.base import Index
from skxc.ranking import inner_products, rank_pairs
from skxc.utils._compiled import compiled
from skxc.utils._sparse import TopK

# Items that are looked at together, and items that a query keeps beyond 2 k.
CHUNK, SPARE_ROOM = 16, 512
# Kept items of all queries of a block.
LARGEST_ROOM = 1 << 21

Array = NDArray[Any]


@params
class ExactIndex(Index):
    """Exact inner-product search whose memory does not grow with queries x items.

    Parameters
    ----------
    block_shape : tuple of (int, int), default=(128, 8192)
        Queries and items that are scored at once; their scores should fit the processor's cache.
        Fewer queries meet more items at once. The result does not depend on it.

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

    block_shape: tuple[int, int] = (128, 8192)

    def __getstate__(self) -> dict:
        """Leave out the eight-bit copy: it holds torch tensors and is made again on demand."""
        state = super().__getstate__()
        return {**state, "_copy": None} if "_copy" in state else state

    def _add(self, vectors: NDArray[np.float32]) -> None:
        ids = None
        if self._n_added:
            if self._ids is not None:
                ids = np.arange(self._n_added, self._n_added + len(vectors))
                ids = np.concatenate([self._ids, ids])
            vectors = np.concatenate([self._vectors, vectors])
        self._set(vectors, ids)

    def _remove(self, ids: NDArray[np.integer]) -> None:
        known = np.arange(len(self._vectors)) if self._ids is None else self._ids
        keep = ~np.isin(known, ids)
        self._set(self._vectors[keep], known[keep])

    def _set(self, vectors: NDArray[np.float32], ids: NDArray[np.int64] | None) -> None:
        # No ids are those of the rows.
        self._vectors, self._ids = vectors, ids
        self._copy: Int8Copy | None = None
        self._largest_norm = largest_norm(vectors)

    def _search(self, queries: NDArray[np.float32], k: int) -> TopK:
        room = 2 * k + SPARE_ROOM
        step = max(1, min(self.block_shape[0], LARGEST_ROOM // room))
        blocks = (queries[start : start + step] for start in range(0, len(queries), step))
        found = [self._search_block(block, k, room) for block in blocks]
        positions, scores = found[0]
        if len(found) > 1:
            positions, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return (positions if self._ids is None else self._ids[positions]), scores

    def _search_block(self, queries: NDArray[np.float32], k: int, room: int) -> TopK:
        """Search a block of queries, item block by item block, keeping what can be among the k."""
        n, dim = queries.shape
        # A float32 sum of d products is off by at most d u |q| |v|, u = 2^-24, in any order of
        # summation. It counts twice, because the exact score of the second step is such a sum, too;
        # the 8 covers the single roundings of steps, norms and the cut.
        norm = np.sqrt(np.einsum("nd,nd->n", queries, queries))
        error = norm * np.float32(2 * (dim + 8) * 2.0**-24 * self._largest_norm)
        copy = None
        if int8_is_fast(dim):
            if self._copy is None:
                self._copy = Int8Copy(self._vectors)
            copy = self._copy
            codes, scale, more = copy.prepare(queries, norm)
            error = error + more
        else:
            scale = np.ones(n, dtype=np.float32)
        kept = _Kept(n, room, k, 2 * error)
        # As many cells for few queries as for many: every product has a cost of its own.
        width = max(self.block_shape[1], self.block_shape[0] * self.block_shape[1] // n)
        for start in range(0, len(self._vectors), width):
            block = slice(start, start + width)
            products: NDArray[Any]
            if copy is None:
                products, steps = queries @ self._vectors[block].T, _ones(width)
            else:
                products, steps = copy.products(codes, block), copy.steps[block]
            kept.take(products, steps, scale, start, partial(self._exact_scores, queries))
        rows, positions = kept.pairs()
        exact = inner_products(queries, self._vectors, rows, positions)
        return rank_pairs(rows, positions, exact, shape=(n, k))

    def _exact_scores(
        self, queries: NDArray[np.float32], row: int, positions: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        rows = np.full(len(positions), row)
        return inner_products(queries, self._vectors, rows, positions)


class _Kept:
    """The items that can still be among the k best of each of n queries.

    The k-th best approximate score is at most one error above the k-th best exact score, and an
    item of the result at most one error below its own exact score: two errors below, none is lost.

    Parameters
    ----------
    n, room, k : int
        `room` is how many items a query can keep.
    margin : ndarray of float32, shape (n,)
        Two errors.
    """

    def __init__(self, n: int, room: int, k: int, margin: NDArray[np.float32]) -> None:
        self._k = k
        self._values = np.empty((n, room), dtype=np.float32)
        self._positions = np.empty((n, room), dtype=np.int64)
        self._counts = np.zeros(n, dtype=np.int64)
        self._cuts = np.full(n, -np.inf, dtype=np.float32)
        self._margin = margin.astype(np.float32)
        self._state = self._values, self._positions, self._counts, self._cuts, self._margin, k

    def take(
        self,
        products: NDArray[Any],
        steps: NDArray[np.float32],
        scale: NDArray[np.float32],
        start: int,
        exact: Callable[[int, NDArray[np.int64]], NDArray[np.float32]],
    ) -> None:
        """Look through a block of approximate scores, ``products * steps * scale[:, None]``."""
        if not start:
            _first_cuts(products, steps, scale, self._cuts, self._margin, self._k)
        row = column = 0
        while True:
            row, column = _take(products, steps, scale, start, row, column, *self._state)
            if row == len(products):
                return
            # More items than there is room for are closer together than the error: their exact
            # scores decide, ties to the lower position.
            mine = self._positions[row, : self._counts[row]]
            best, scores = rank_pairs(
                np.zeros(len(mine), np.int64), mine, exact(row, mine), shape=(1, self._k)
            )
            self._positions[row, : self._k], self._values[row, : self._k] = best[0], scores[0]
            self._counts[row] = self._k

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (row, position) of what is left."""
        for row in range(len(self._counts)):
            _drop(row, *self._state)
        rows = np.repeat(np.arange(len(self._counts)), self._counts)
        used = np.arange(self._positions.shape[1]) < self._counts[:, None]
        return rows, self._positions[used]


@cache
def _ones(n: int) -> NDArray[np.float32]:
    return np.ones(n, dtype=np.float32)


@partial(compiled, fastmath=frozenset({"nnan", "nsz", "reassoc"}))
def _first_cuts(
    products: Array, steps: Array, scale: Array, cuts: Array, margin: Array, k: int
) -> None:
    """Set the cuts of all queries: k chunks with a better item each have k better items."""
    n, m = products.shape
    best = np.empty(-(-m // CHUNK), dtype=np.float32)
    if len(best) < k:
        return
    for row in range(n):
        for number in range(len(best)):
            column = number * CHUNK
            stop = min(column + CHUNK, m)
            chunk, their_steps = products[row, column:stop], steps[column:stop]
            largest = np.float32(-np.inf)
            for j in range(len(chunk)):
                largest = max(largest, np.float32(chunk[j]) * their_steps[j])
            best[number] = largest
        cuts[row] = np.partition(best, len(best) - k)[len(best) - k] * scale[row] - margin[row]


@compiled
def _drop(
    row: int, values: Array, positions: Array, counts: Array, cuts: Array, margin: Array, k: int
) -> None:
    """Raise the cut of a query to what its k best leave, and drop what lies below."""
    n = counts[row]
    if n <= k:
        return
    best = np.partition(values[row, :n], n - k)[n - k]
    cut = max(cuts[row], best - margin[row])
    kept = 0
    for i in range(n):
        values[row, kept], positions[row, kept] = values[row, i], positions[row, i]
        kept += values[row, kept] >= cut
    counts[row], cuts[row] = kept, cut


@compiled
def _take(
    products: Array,
    steps: Array,
    scale: Array,
    start: int,
    row: int,
    column: int,
    values: Array,
    positions: Array,
    counts: Array,
    cuts: Array,
    margin: Array,
    k: int,
) -> tuple[int, int]:
    """Keep what is not below the cuts; return where room ran out, or (n, 0)."""
    n, m = products.shape
    room = values.shape[1]
    while row < n:
        while column < m:
            stop = min(column + CHUNK, m)
            # Nothing but this loop, over slices of known length, runs for most items.
            chunk, their_steps = products[row, column:stop], steps[column:stop]
            cut, factor, any_above = cuts[row], scale[row], np.int32(0)
            for j in range(len(chunk)):
                any_above |= np.int32(np.float32(chunk[j]) * their_steps[j] * factor >= cut)
            if any_above:
                if counts[row] + CHUNK > room:
                    _drop(row, values, positions, counts, cuts, margin, k)
                    if counts[row] + CHUNK > room:
                        return row, column
                    cut = cuts[row]
                at = counts[row]
                for j in range(column, stop):
                    # Written in any case: a branch that cannot be foreseen costs more.
                    value = np.float32(products[row, j]) * steps[j] * factor
                    values[row, at], positions[row, at] = value, start + j
                    at += value >= cut
                counts[row] = at
            column = stop
        row, column = row + 1, 0
    return n, 0
