"""From scores of retrieved labels to answers in the layout of the target."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.exceptions import DenseOutputError
from skxc.utils._sparse import TopK, index_dtype, row_ids

# Dense answers above this many cells (400 MB of float32) are refused rather than built.
MAX_DENSE_CELLS = 10**8
# A dense answer needs a probability for labels that were not retrieved at all.
MISSING_PROBABILITY = 1e-4
# Dense probabilities stay inside (0, 1), in float32.
_SMALLEST, _BELOW_ONE = np.finfo(np.float32).tiny, np.nextafter(np.float32(1), np.float32(0))


def check_dense_size(n_rows: int, n_labels: int) -> None:
    """Raise where a dense answer would be too large to build."""
    cells = n_rows * n_labels
    if cells > MAX_DENSE_CELLS:
        raise DenseOutputError(
            f"A dense answer has at most {MAX_DENSE_CELLS} cells, but {n_rows} rows x "
            f"{n_labels} labels make {cells}: fit with a sparse y, or predict fewer rows."
        )


def dense_scores(scores: sp.csr_array) -> NDArray[np.float32]:
    """Return scores with a value below all retrieved ones of the row for all other labels."""
    low = _row_minimum(scores)
    low[np.isinf(low)] = 0
    return _fill(scores, low - 1 - np.abs(low))


def dense_probabilities(probabilities: sp.csr_array, layout: str) -> NDArray[np.float32]:
    """Return probabilities with a small one for all other labels; rows of classes add up to 1."""
    missing = np.minimum(MISSING_PROBABILITY, _row_minimum(probabilities) / 2)
    dense = _fill(probabilities, missing)
    if layout == "classes":
        dense /= dense.sum(axis=1, keepdims=True)
    # Scores are float32, and more digits than theirs would depend on how rows were batched.
    return np.clip(dense.astype(np.float32), _SMALLEST, _BELOW_ONE)


def log_odds(probability: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return log(p / (1 - p))."""
    probability = probability.astype(np.float64)
    return (np.log(probability) - np.log1p(-probability)).astype(np.float32)


def no_rows(k: int) -> TopK:
    """Return the lists of k labels of no row at all."""
    return np.zeros((0, k), dtype=np.int32), np.zeros((0, k), dtype=np.float32)


def padded(
    indices: NDArray[np.integer], scores: NDArray[np.floating], k: int, n_labels: int
) -> TopK:
    """Return lists of k labels, with -1 and -inf where there are fewer."""
    indices = indices.astype(index_dtype(n_labels), copy=False)
    scores = scores.astype(np.float32, copy=False)
    missing = ((0, 0), (0, k - indices.shape[1]))
    if k == indices.shape[1]:
        return indices, scores
    return (
        np.pad(indices, missing, constant_values=-1),
        np.pad(scores, missing, constant_values=-np.inf),
    )


def _row_minimum(matrix: sp.csr_array) -> NDArray[np.floating]:
    """Return the smallest stored value of every row, infinity for rows without any."""
    low = np.full(matrix.shape[0], np.inf, dtype=matrix.dtype)
    np.minimum.at(low, row_ids(matrix), matrix.data)
    return low


def _fill(matrix: sp.csr_array, missing: NDArray[np.floating]) -> NDArray:
    """Return a CSR array as a dense one, with one value per row for absent entries."""
    dense = np.repeat(missing[:, None].astype(matrix.dtype), matrix.shape[1], axis=1)
    dense[row_ids(matrix), matrix.indices] = matrix.data
    return dense
