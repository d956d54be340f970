"""Vectors that a model keeps, and the indices over them, which are built when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxc.indices.base import Index
from skxc.utils._loaded import sizes_of
from skxc.utils._record import Record
from skxc.utils._sparse import TopK


@dataclass(frozen=True, eq=False)
class VectorSearch(Record):
    """A matrix of vectors that is searched through any index by inner product; immutable.

    The indices are kept, but are no part of the state: a copy or a pickle builds them again.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, d)

    Examples
    --------
    >>> import numpy as np
    >>> search = VectorSearch(np.eye(3, dtype=np.float32))
    >>> search.search([[0.0, 2.0, 1.0]], k=2)
    (array([[1, 2]], dtype=int32), array([[2., 1.]], dtype=float32))
    """

    vectors: NDArray[np.float32]

    _rounded = ("vectors",)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: ArrayLike, k: int, index: str | Index = "auto") -> TopK:
        """Return the k vectors with the largest inner products of every query.

        Parameters
        ----------
        queries : array-like of shape (m, d)
        k : int
        index : {"auto", "exact", "hnsw", "ivf"} or Index, default="auto"
            See `make_index`. It is built once, and again where its parameters have changed.

        Returns
        -------
        ids : ndarray of int32 (int64 beyond its range), shape (m, k)
            Rows of `vectors`, best first, ties to the lower id; -1 where the index finds no more.
        scores : ndarray of float32, shape (m, k)
            Inner products; -inf at the same places.
        """
        return self._index(index).search(queries, k)

    def extended(self, new_vectors: NDArray[np.float32]) -> VectorSearch:
        """Return a search among these vectors and, behind them, new ones of shape (m, d)."""
        return VectorSearch(np.concatenate([self.vectors, new_vectors], dtype=np.float32))

    def _check_loaded(self) -> None:
        sizes_of(self, vectors="n d")

    def _index(self, spec: str | Index) -> Index:
        # The object itself is part of the key: two indices of a user's class can look the same.
        key = spec, repr(spec)
        built = self._built.get(key)
        if built is None:
            from skxc.indices import make_index

            built = make_index(spec, len(self))
            built.add(self.vectors)
            # Entered when it is complete: another thread may build a second, but never sees a part.
            self._built[key] = built
        return built

    @cached_property
    def _built(self) -> dict[tuple[Any, str], Index]:
        return {}
