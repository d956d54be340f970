"""Nearest neighbours of vectors as a graph."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.graphs._prune import keep_strongest, without_diagonal
from skxc.indices import ExactIndex
from skxc.utils._sparse import normalize_rows, pack_topk


def nearest_neighbors(vectors: NDArray[np.float32], *, top_k: int = 10) -> sp.csr_array:
    """Return the graph of the `top_k` rows with the highest cosine to each row.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Embeddings, of labels for example; their length does not matter.
    top_k : int, default=10
        Neighbours per row, itself not counted.

    Returns
    -------
    csr_array of float32, shape (n, n)
        Positive cosines, no diagonal, not symmetric.
    """
    units = normalize_rows(np.asarray(vectors, dtype=np.float32))
    index = ExactIndex()
    index.add(units)
    found = pack_topk(*index.search(units, min(top_k + 1, len(units))), len(units))
    found.data[found.data < 0] = 0
    found.eliminate_zeros()
    return keep_strongest(without_diagonal(found), top_k)
