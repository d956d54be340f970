"""Matrices of ones, which is what labels, filters and links are."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.utils._sparse import index_dtype


def ones(
    rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int]
) -> sp.csr_array:
    """Return the canonical matrix of float32 ones at some cells; repeated cells count once."""
    dtype = index_dtype(max(*shape, len(rows)))
    cells = (rows.astype(dtype), columns.astype(dtype))
    matrix = sp.csr_array((np.ones(len(rows), dtype=np.float32), cells), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
