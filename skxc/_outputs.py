"""From scores of retrieved labels to answers in the layout of the target."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.exceptions import DenseOutputError
from skxc.utils._optional import import_optional
from skxc.utils._sparse import TopK, index_dtype, row_ids

# Dense answers above this many cells (400 MB of float32) are refused rather than built.
MAX_DENSE_CELLS = 10**8
# A dense answer needs a probability for labels that were not retrieved at all.
MISSING_PROBABILITY = 1e-4
# The threshold of labels that a dict of thresholds does not name.
USUAL_THRESHOLD = 0.5
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


def thresholds(value: Any, n_labels: int, names: list[str] | None) -> NDArray[np.float64]:
    """Return one checked threshold per label, from one for all, one per label, or a dict."""
    if isinstance(value, Real):
        return np.full(n_labels, float(value))
    if isinstance(value, Mapping):
        known = {name: label for label, name in enumerate(names or ())}
        if unknown := [name for name in value if name not in known]:
            raise ValueError(
                f"`threshold` must name labels, but {unknown[0]!r} is none of the {n_labels} "
                "labels. Leave it out, or fit with names."
            )
        given, value = value, np.full(n_labels, USUAL_THRESHOLD)
        value[[known[name] for name in given]] = list(given.values())
    result = np.asarray(value, dtype=np.float64)
    if result.shape != (n_labels,) or not np.all((result >= 0) & (result <= 1)):
        raise ValueError(
            f"`threshold` must hold {n_labels} numbers from 0 to 1, one per label, but has the "
            f"shape {result.shape} and values from {np.min(result, initial=1):g} to "
            f"{np.max(result, initial=0):g}. Pass one per label, or one for all."
        )
    return result


def nothing_for(found: TopK, rows: NDArray[np.bool_]) -> TopK:
    """Return lists of labels with empty ones for some rows."""
    if not rows.any():
        return found
    indices, scores = found[0].copy(), found[1].copy()
    indices[rows], scores[rows] = -1, -np.inf
    return indices, scores


def ids_of(X: Any) -> NDArray[Any]:
    """Return the index of a Series or frame of pandas; nothing where there is none."""
    index = getattr(X, "index", None)
    return np.zeros(0) if index is None or callable(index) else np.asarray(index)


def frame_library(X: Any, library: str | None) -> Any:
    """Return the module that makes data frames."""
    if library not in (None, "pandas", "polars"):
        raise ValueError(f"`library` must be 'pandas', 'polars' or None, but is {library!r}.")
    is_polars = type(X).__module__.startswith("polars")
    wanted = library or ("polars" if is_polars else "pandas")
    return import_optional(wanted, extra="frames", purpose="predict_frame")


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
