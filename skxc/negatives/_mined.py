"""Hard negatives mined from the current model."""

from __future__ import annotations

import logging

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import PositiveInt, params
from skxc.negatives._pairs import Ids, row_entries
from skxc.negatives.base import Negatives, Search, fill_pool, union
from skxc.utils._sparse import pair_ids

_LOGGER = logging.getLogger("skxc")
_BLOCK = 16_384


@params
class Mined(Negatives):
    """The pool also holds labels that the current model ranks high for rows without them.

    Every `refresh_every` epochs each training row gets the list of its best `depth` labels without
    its own; each step draws `n_negatives` of them per row. Before the first refresh the pool is the
    sampled positives.

    Parameters
    ----------
    depth : int, default=100
        Labels searched per row.
    n_negatives : int, default=1
        Labels drawn per row and step, without replacement.
    n_kept : int or None, default=None
        Length a list is cut to, *after* the labels of the row have left it; None keeps all. UniDEC
        uses ``n_negatives * refresh_every``.
    pool_size : int or None, default=None
        Largest pool. When set, the most frequent sampled positives come first, then the labels
        mined by most rows, then unsampled positives (UniDEC, steps 1-3). None: no limit and no
        filling.

    Attributes
    ----------
    n_empty_ : int
        Rows whose list was empty after the last refresh.

    References
    ----------
    Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024, hard-negative
    variant; Kharbanda et al., "UniDEC", WWW 2025.
    """

    clustered = True
    depth: PositiveInt = 100
    n_negatives: PositiveInt = 1
    n_kept: PositiveInt | None = None
    pool_size: PositiveInt | None = None

    def prepare(self, y: sp.csr_array, excluded_pairs: sp.csr_array | None = None) -> None:
        """Remember the labels and the pairs that must not be drawn (see `Negatives.prepare`)."""
        super().prepare(y, excluded_pairs)
        forbidden = pair_ids(y)
        if excluded_pairs is not None:
            forbidden = np.concatenate([forbidden, pair_ids(excluded_pairs)])
        self._forbidden = np.unique(forbidden)
        self._take(np.empty((y.shape[0], 0), dtype=np.int32))

    def needs_refresh(self, epoch: int) -> bool:
        """Return whether this epoch is a positive multiple of `refresh_every`."""
        return epoch > 0 and epoch % self.refresh_every == 0

    def refresh(self, query_vectors: NDArray, label_vectors: NDArray, search: Search) -> None:
        """Search the best labels of every row, drop its own and count the empty lists."""
        found = search(query_vectors, label_vectors, min(self.depth, self._y.shape[1]))[0]
        lists = [self._survivors(found, start) for start in range(0, len(found), _BLOCK)]
        self._take(np.concatenate(lists))
        if self.n_empty_:
            _LOGGER.info("%d of %d mined lists are empty", self.n_empty_, len(found))

    def pool(self, rows: Ids, positives: Ids, rng: np.random.Generator) -> Ids:
        """Return sampled positives and mined labels, within the capacity (see `Negatives.pool`)."""
        mined = self._draw(rows, rng)
        if self.pool_size is None:
            return union([positives, mined])
        groups = [positives, mined, row_entries(self._y, rows)[1]]
        return fill_pool(groups, self.pool_size, rng)

    def get_state(self) -> dict[str, NDArray]:
        """Return {"candidates": int32 (n_samples, at most depth), padded with -1}."""
        return {"candidates": self._candidates}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take up a state returned by `get_state`."""
        self._take(state["candidates"])

    def _take(self, candidates: NDArray[np.int32]) -> None:
        self._candidates = candidates
        self.n_empty_ = int((~(candidates >= 0).any(axis=1)).sum())

    def _survivors(self, found: NDArray[np.integer], start: int) -> NDArray[np.int32]:
        """Return a block of lists without forbidden labels, moved to the left and then cut."""
        lists = found[start : start + _BLOCK].astype(np.int64)
        rows = np.arange(start, start + len(lists))[:, None]
        pairs = rows * self._y.shape[1] + lists
        place = np.searchsorted(self._forbidden, pairs)
        known = np.append(self._forbidden, -1)[place] == pairs
        lists[known] = -1
        order = np.argsort(lists < 0, axis=1, kind="stable")[:, : self.n_kept]
        return np.take_along_axis(lists, order, axis=1).astype(np.int32)

    def _draw(self, rows: Ids, rng: np.random.Generator) -> Ids:
        lists = self._candidates[rows]
        lottery = rng.random(lists.shape)
        lottery[lists < 0] = 2
        chosen = np.argsort(lottery, axis=1)[:, : self.n_negatives]
        drawn = np.take_along_axis(lists, chosen, axis=1)
        return drawn[drawn >= 0].astype(np.int64)
