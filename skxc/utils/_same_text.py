"""Samples that are labels themselves: a package among the packages, a page among the pages."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from skxc.utils._sparse import drop_pairs


def same_text_pairs(samples: Any, labels: Any, y: sp.csr_array) -> sp.csr_array | None:
    """Return the (sample, label) pairs of equal text that `y` does not hold.

    Such a label is the sample itself. It is no answer, but its vector is the sample's own, so as a
    negative it would only teach the encoder to tell equal texts apart.

    Parameters
    ----------
    samples, labels : ndarrays of str objects, shapes (n,) and (L,), or feature matrices, or None
    y : csr_array of shape (n, L)

    Returns
    -------
    csr_array of shape (n, L), or None
        None where there are no such pairs, or no texts.
    """
    if not all(isinstance(side, np.ndarray) and side.dtype == object for side in (samples, labels)):
        return None
    ids: dict[str, list[int]] = {}
    for label, text in enumerate(labels):
        ids.setdefault(text, []).append(label)
    found = [ids.get(text, []) for text in samples]
    indptr = np.cumsum([0, *(len(row) for row in found)])
    indices = np.array([label for row in found for label in row], dtype=np.int32)
    ones = np.ones(len(indices), dtype=np.float32)
    pairs = drop_pairs(sp.csr_array((ones, indices, indptr), shape=y.shape), y)
    return pairs if pairs.nnz else None
