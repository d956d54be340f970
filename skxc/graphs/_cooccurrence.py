"""Labels that share training rows: the normalised co-occurrence graph ``D^-1/2 Y^T Y D^-1/2``."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skxc.graphs._prune import keep_strongest, without_diagonal
from skxc.utils._validation import checked_sparse


def cooccurrence(y: sp.csr_array, *, top_k: int = 10) -> sp.csr_array:
    """Return the cosine of label columns, for the strongest neighbours of every label.

    Parameters
    ----------
    y : csr_array of shape (n_samples, n_labels)
        Training labels.
    top_k : int, default=10
        Neighbours kept per label.

    Returns
    -------
    csr_array of float32, shape (n_labels, n_labels)
        Values in (0, 1], no diagonal. Not symmetric after the cut.
    """
    y = sp.csr_array(checked_sparse(y, "y"))
    frequency = np.bincount(y.indices, minlength=y.shape[1])
    scale = 1 / np.sqrt(np.maximum(frequency, 1))
    columns = sp.csr_array(
        (scale[y.indices].astype(np.float32), y.indices, y.indptr), shape=y.shape
    )
    return keep_strongest(without_diagonal(sp.csr_array(columns.T @ columns)), top_k)
