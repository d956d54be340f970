"""Search among label vectors through the clusters of a learned index.

Each cluster's centre is the weighted mean of the vectors of its labels, so the clusters that one
model has learned serve the vectors of any other. Labels that live in several clusters are found
from each of them.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxc._params import PositiveInt, Share, params
from skxc.indices._label_index import LabelIndex
from skxc.indices.base import Index
from skxc.ranking import inner_products, rank_pairs
from skxc.utils._sparse import TopK, normalize_rows, top_k


@params
class GraphIndex(Index):
    """Approximate search over labels, restricted to the best clusters of a `LabelIndex`.

    Parameters
    ----------
    graph : LabelIndex
        Which labels live in which clusters; its ids are the positions of the vectors. Vectors
        beyond its labels belong to no cluster and are always compared.
    beam_width : int or None, default=None
        Clusters that a search follows; None: as many as `graph` follows.
    min_weight : float, default=0.05
        Edges below this are not followed.
    """

    graph: LabelIndex = field(kw_only=False)
    beam_width: PositiveInt | None = None
    min_weight: Share = 0.05

    def _add(self, vectors: NDArray[np.float32]) -> None:
        old = getattr(self, "_vectors", np.empty((0, vectors.shape[1]), dtype=np.float32))
        self._vectors = np.concatenate([old, vectors])
        edges = self.graph.to_csr()
        edges.data[edges.data < self.min_weight] = 0
        edges.eliminate_zeros()
        known = min(len(self._vectors), self.graph.n_labels)
        self._lists = edges[:, :known]
        self._centers = normalize_rows(self._lists @ self._vectors[:known])
        # Labels without a cluster, which no beam could find.
        found = np.zeros(len(self._vectors), dtype=bool)
        found[self._lists.indices] = True
        self._always = np.flatnonzero(~found)

    def _remove(self, ids: NDArray[np.integer]) -> None:
        """Leave the vectors where they are; a search drops what is not alive."""

    def _search(self, queries: NDArray[np.float32], k: int) -> TopK:
        width = self.graph.beam_width if self.beam_width is None else self.beam_width
        beams, _ = top_k(queries @ self._centers.T, min(width, len(self._centers)))
        pairs = [self._candidates(row, beam) for row, beam in enumerate(beams)]
        rows, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
        scores = inner_products(queries, self._vectors, rows, labels)
        return rank_pairs(rows, labels, scores, shape=(len(queries), k))

    def _candidates(self, row: int, beam: NDArray[Any]) -> tuple[NDArray, NDArray]:
        lists = self._lists
        parts = [lists.indices[lists.indptr[c] : lists.indptr[c + 1]] for c in beam]
        labels = np.unique(np.concatenate([*parts, self._always]))
        labels = labels[self._alive[labels]].astype(np.int64)
        return np.full(len(labels), row), labels
