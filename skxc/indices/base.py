"""The contract of an index: add vectors, remove ids, search by inner product."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxc._params import Parameterized
from skxc.utils._sparse import TopK, index_dtype


class Index(Parameterized, ABC):
    """Base class of all indices; a subclass declares its parameters with `params`.

    An id is the position at which a vector was inserted and never changes: removing items leaves
    gaps, and later additions go on counting. A search returns inner products, best first, ties to
    the lower id.

    `sklearn.base.clone` gives an empty index with the same parameters. A subclass writes `_add`,
    `_remove` and `_search`, which receive checked arguments.
    """

    _n_added: int = 0
    _dim: int | None = None
    _alive: NDArray[np.bool_] = np.zeros(0, dtype=bool)

    @property
    def n_items(self) -> int:
        """Number of vectors that a search can return."""
        return int(np.count_nonzero(self._alive))

    def add(self, vectors: ArrayLike) -> NDArray[np.integer]:
        """Insert vectors at the end.

        Parameters
        ----------
        vectors : array-like of shape (m, d)
            Finite numbers; converted to float32. Never written to.

        Returns
        -------
        ids : ndarray of int32 (int64 beyond its range), shape (m,)
            The ids of the new vectors.

        Raises
        ------
        ValueError
            If the shape, a value or a parameter is not allowed. The index is then unchanged.
        """
        self._validate_params()
        checked = self._check(vectors, "vectors")
        end = self._n_added + len(checked)
        ids = np.arange(self._n_added, end, dtype=index_dtype(end))
        if len(checked):
            self._add(checked)
            self._dim = checked.shape[1]
            self._alive = np.append(self._alive, np.ones(len(checked), dtype=bool))
            self._n_added = end
        return ids

    def remove(self, ids: ArrayLike) -> None:
        """Take vectors out; their ids are not given to anything else.

        Parameters
        ----------
        ids : array-like of int, shape (m,)
            Ids that `add` returned and that are still in the index; repetitions count once.

        Raises
        ------
        ValueError
            If an id is not in the index. The index is then unchanged.
        """
        wanted = np.unique(np.asarray(ids))
        if wanted.size == 0:
            return
        self._check_ids(wanted)
        self._remove(wanted)
        # A new array: a shallow copy of this index may share the old one.
        self._alive = self._alive.copy()
        self._alive[wanted] = False

    def search(self, queries: ArrayLike, k: int) -> TopK:
        """Find the items with the largest inner products.

        Parameters
        ----------
        queries : array-like of shape (n, d)
            Finite numbers; converted to float32.
        k : int
            Wanted items for each query, at least 1.

        Returns
        -------
        ids : ndarray of int32 (int64 beyond its range), shape (n, k)
            Best first, ties to the lower id; -1 where the index has no more items, or an
            approximate one finds no more.
        scores : ndarray of float32, shape (n, k)
            Inner products; -inf at the same places.

        Raises
        ------
        ValueError
            If `k` is below 1, or the shape or a value of the queries is not allowed.
        """
        if k < 1:
            raise ValueError(f"`k` must be at least 1, but is {k}. Ask for one item or more.")
        checked = self._check(queries, "queries")
        ids = np.full((len(checked), k), -1, dtype=index_dtype(self._n_added))
        scores = np.full((len(checked), k), -np.inf, dtype=np.float32)
        n_found = min(k, self.n_items)
        if n_found and len(checked):
            ids[:, :n_found], scores[:, :n_found] = self._search(checked, n_found)
        return ids, scores

    def _check(self, vectors: ArrayLike, name: str) -> NDArray[np.float32]:
        """Return the vectors as C-contiguous float32, without a copy where they are that."""
        checked = np.ascontiguousarray(vectors, dtype=np.float32)
        if np.ndim(vectors) != 2 or checked.shape[1] == 0:
            raise ValueError(
                f"`{name}` must have shape (n, d) with d > 0, but the shape is "
                f"{np.shape(vectors)}. Pass one vector in each row."
            )
        if self._dim is not None and checked.shape[1] != self._dim:
            raise ValueError(
                f"`{name}` must have {self._dim} columns like the vectors of this index, but has "
                f"{checked.shape[1]}. Use the same encoder, or a new index."
            )
        # The sum of finite float32 numbers fits float64, and needs no array of flags.
        if not np.isfinite(checked.sum(dtype=np.float64)):
            raise ValueError(
                f"`{name}` must be finite in float32, but contains NaN or infinity. "
                "Remove or replace these vectors."
            )
        return checked

    def _check_ids(self, ids: NDArray) -> None:
        if ids.dtype.kind not in "iu":
            raise ValueError(
                f"`ids` must be integers, but their dtype is {ids.dtype}. "
                "Pass ids returned by `add`."
            )
        known = (ids >= 0) & (ids < self._n_added)
        known[known] = self._alive[ids[known]]
        if not known.all():
            raise ValueError(
                f"`ids` must be in the index, but {ids[~known][0]} is not (it has {self.n_items} "
                f"items with ids below {self._n_added}). Remove each id once."
            )

    @abstractmethod
    def _add(self, vectors: NDArray[np.float32]) -> None:
        """Insert m > 0 vectors; their ids start at `self._n_added`."""

    @abstractmethod
    def _remove(self, ids: NDArray[np.integer]) -> None:
        """Remove sorted distinct ids that are in the index."""

    @abstractmethod
    def _search(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Search n > 0 queries with 1 <= k <= n_items; (n, k) arrays padded with -1 and -inf."""
