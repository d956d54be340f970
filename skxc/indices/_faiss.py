"""Approximate search with faiss: a navigable small-world graph (HNSW) or an inverted file (IVF)."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skxc._params import PositiveInt, params
from skxc.indices.base import Index
from skxc.utils._sparse import TopK


@params
class FaissIndex(Index):
    """Approximate inner-product search by faiss.

    Parameters
    ----------
    kind : {"hnsw", "ivf"}, default="hnsw"
        ``"hnsw"`` walks a graph of near neighbours [1]_: high recall, slow to build. ``"ivf"``
        scores the items of the nearest k-means cells: quick to build, lower recall.
    n_links : int, default=32
        HNSW: links of an item. M in the paper.
    build_width : int, default=40
        HNSW: candidates while inserting. efConstruction in the paper.
    search_width : int, default=200
        HNSW: candidates while searching, raised to k where smaller. ef in the paper.
    n_cells : int or None, default=None
        IVF: number of cells; None means 4 sqrt(m). They are learnt from the m vectors of the first
        `add`, which should therefore be a large one.
    n_probes : int, default=64
        IVF: cells that a search visits.

    Notes
    -----
    Building is deterministic: seeds are fixed, and one thread builds the graph, because its links
    depend on the order of insertion. Removed items of a graph stay as way-points that a search
    passes and never returns; build a new index when most of its items are removed.

    Ties are ordered by id among the items found; which of many tied items are found is up to faiss.

    References
    ----------
    .. [1] Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
       Hierarchical Navigable Small World graphs", IEEE TPAMI 42(4), 2020.

    Examples
    --------
    >>> import numpy as np
    >>> index = FaissIndex("hnsw")
    >>> index.add(np.eye(3))
    array([0, 1, 2], dtype=int32)
    >>> index.search([[0.0, 2.0, 1.0]], k=2)
    (array([[1, 2]], dtype=int32), array([[2., 1.]], dtype=float32))
    """

    kind: Literal["hnsw", "ivf"] = field(default="hnsw", kw_only=False)
    n_links: PositiveInt = 32
    build_width: PositiveInt = 40
    search_width: PositiveInt = 200
    n_cells: PositiveInt | None = None
    n_probes: PositiveInt = 64

    def _add(self, vectors: NDArray[np.float32]) -> None:
        if not self._n_added:
            build = self._build_hnsw if self.kind == "hnsw" else self._build_ivf
            self._index = build(vectors)
        if self.kind == "hnsw":
            self._insert_in_order(vectors)
        else:
            ids = np.arange(self._n_added, self._n_added + len(vectors))
            self._index.add_with_ids(vectors, ids)

    def _build_hnsw(self, vectors: NDArray[np.float32]) -> Any:
        import faiss

        index = faiss.IndexHNSWFlat(vectors.shape[1], self.n_links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.build_width
        return index

    def _build_ivf(self, vectors: NDArray[np.float32]) -> Any:
        import faiss

        n_cells = min(self.n_cells or int(4 * np.sqrt(len(vectors))), len(vectors))
        recipe = f"IVF{n_cells},Flat"
        index = faiss.index_factory(vectors.shape[1], recipe, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # otherwise faiss writes warnings to the terminal
        index.train(vectors)
        return index

    def _insert_in_order(self, vectors: NDArray[np.float32]) -> None:
        import faiss

        n_threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            self._index.add(vectors)
        finally:
            faiss.omp_set_num_threads(n_threads)

    def _remove(self, ids: NDArray[np.integer]) -> None:
        # A graph keeps its removed items; `_search` filters them by the flags of the base class.
        if self.kind == "ivf":
            self._index.remove_ids(ids.astype(np.int64))

    def _search(self, queries: NDArray[np.float32], k: int) -> TopK:
        import faiss

        if self.kind == "ivf":
            options = faiss.SearchParametersIVF(nprobe=self.n_probes)
        else:
            alive = faiss.IDSelectorBitmap(np.packbits(self._alive, bitorder="little"))
            options = faiss.SearchParametersHNSW(efSearch=max(self.search_width, k), sel=alive)
        scores, ids = self._index.search(queries, k, params=options)
        scores[ids < 0] = -np.inf
        order = np.lexsort((ids, -scores), axis=1)
        return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
